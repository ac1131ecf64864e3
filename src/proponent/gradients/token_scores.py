"""What each token of a row contributes to inner products with its feature.

A feature is a sum over tokens, so its inner product with a direction v [b, p, p] is one too:

    v · φ = Σ_t Σ_matrices (P_out D_r d_t)ᵀ v_b (P_in D_c x_t)

Token t's term is that of the position which reads it: its layer inputs x_t, and the gradient d_t that the
losses of all later tokens send back to it.  The last token of a row predicts nothing and contributes 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from proponent.gradients.features import FeatureExtractor, ProjectedFactors
from proponent.gradients.layers import Matrix


def token_scores(
    extractor: FeatureExtractor,
    rows: Sequence[Sequence[int]],
    starts: Sequence[int],
    directions: Sequence[Tensor],
    output: str,
    done: Callable[[Sequence[int]], None] | None = None,
) -> list[Tensor]:
    """Contributions [j, t] float64 of each row's tokens to its products with directions; one sweep for all.

    directions: for each row [j, d], in the coordinates of features φ.  The others are as of ``Sweep``.
    """
    sink = _TokenSink(extractor, [len(row) for row in rows], directions)
    extractor.sweep(rows, starts, [sink], output, done)
    return sink.scores


class _Factors(ProjectedFactors):
    """A capture that keeps the factors: whose directions they meet is known when the batch is taken."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__(extractor)
        self._shape = (len(extractor.plan.blocks), extractor.plan.side, extractor.plan.side)
        self._kept: list[tuple[int, Tensor, Tensor]] = []

    def add(self, matrix: Matrix, x: Tensor, d: Tensor) -> None:
        """Keep the factors."""
        self._kept.append((self._sides[matrix.name].block, x, d))

    def products(self, row: int, directions: Tensor) -> Tensor:
        """Contributions [j, t] of a row's positions, float64: terms may be far larger than their sum."""
        v = directions.double().unflatten(1, self._shape)  # [j, b, p, p]
        terms = (
            (d[row].cpu().double() @ v[:, block] * x[row].cpu().double()).sum(-1)
            for block, x, d in self._kept
        )
        return torch.stack(list(terms)).sum(0)


class _TokenSink:
    """A sink that fills ``scores``, the contributions [j, t] of each row."""

    def __init__(
        self, extractor: FeatureExtractor, lengths: Sequence[int], directions: Sequence[Tensor]
    ) -> None:
        self._extractor, self._lengths, self._directions = extractor, lengths, directions
        self.scores = [torch.empty(0)] * len(lengths)

    def open(self, _: int) -> _Factors:
        """A capture for a batch."""
        return _Factors(self._extractor)

    def take(self, members: Sequence[int], captured: _Factors) -> None:
        """Compare the rows of a batch with their directions."""
        for row, n in enumerate(members):
            predicting = self._lengths[n] - 1
            found = captured.products(row, self._directions[n])[:, :predicting]
            self.scores[n] = torch.nn.functional.pad(found, (0, 1))
