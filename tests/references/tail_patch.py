"""The slow, obvious tail-patch: really step the weights, measure, restore them.

It exists to be compared with, in results and in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from tests.references.gradients import weight_gradients
from transformers.pytorch_utils import Conv1D

from proponent.attribute.tail_patch import PatchStep, rms
from proponent.corpus.example import EncodedQuery
from proponent.gradients.layers import Matrix
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import SecondMoments


def stepped_probability(
    model: LanguageModel,
    matrices: Sequence[Matrix],
    moments: Mapping[str, SecondMoments],
    step: PatchStep,
    passage: Sequence[int],
    query: EncodedQuery,
) -> float:
    """Probability of the query's target after one real step on the passage; the weights are restored."""
    start = model.encoder.start
    gradients = weight_gradients(model, matrices, passage, start)
    weights = [model.causal.get_submodule(path).weight for m in matrices for path in m.modules]
    kept = [weight.clone() for weight in weights]
    try:
        with torch.no_grad():
            for matrix in matrices:
                own = moments[matrix.name]
                share = 1 / (len(passage) - start) if own.of_mean else 1.0
                _step(model, matrix, own, step, gradients[matrix.name] * share)
            return target_probability(model, query)
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)


def _step(
    model: LanguageModel, matrix: Matrix, moments: SecondMoments, step: PatchStep, gradient: torch.Tensor
) -> None:
    """Change the modules of one matrix by its gradient [o, i]."""
    row_scale, column_scale = moments.row_scale.to(gradient.device), moments.column_scale.to(gradient.device)
    scaled = row_scale[:, None] * gradient * column_scale
    for path, update in zip(matrix.modules, scaled.split(matrix.outputs), strict=True):
        module = model.causal.get_submodule(path)
        change = -step.size(module.weight) * update / max(1.0, rms(update) / step.clip)
        module.weight += (change.T if isinstance(module, Conv1D) else change).to(module.weight.dtype)


@torch.no_grad()
def target_probability(model: LanguageModel, query: EncodedQuery) -> float:
    """Probability of the target tokens given the prompt, by the model's own forward on the query alone."""
    tokens = torch.tensor([query.tokens], device=model.device)
    logits = model.causal(input_ids=tokens, use_cache=False).logits[0].float()
    start = query.boundary
    chosen = logits[start - 1 : -1].log_softmax(-1).gather(1, tokens[0, start:, None])
    return float(chosen.double().sum().exp())
