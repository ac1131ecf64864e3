"""Features and second moments of token rows in one call, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proponent.gradients.features import FeatureExtractor
from proponent.gradients.layers import LayerPlan
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import SecondMoments, fold_moments, sample_moments
from proponent.gradients.sweep import Sweep


def extractor(
    model: LanguageModel,
    plan: LayerPlan,
    moments: Mapping[str, SecondMoments] | None = None,
    seed: int = 0,
    batch_tokens: int = 1000,
) -> FeatureExtractor:
    """An extractor with these second moments, or with none."""
    used = moments or {matrix.name: SecondMoments.ones(matrix) for matrix in plan.matrices}
    return FeatureExtractor(model, plan, fold_moments(plan, used, seed), batch_tokens)


def sampled_moments(
    model: LanguageModel, plan: LayerPlan, rows: Sequence[Sequence[int]], batch_tokens: int = 1000
) -> dict[str, SecondMoments]:
    """Second moments of rows that are scored from their second token on."""
    return sample_moments(Sweep(model, plan.matrices, batch_tokens), rows, [1] * len(rows))
