"""Influence features of token rows: projected, V-corrected gradients, summed over matrices and tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from proponent.gradients.backprop import Batch, backpropagate
from proponent.gradients.capture import capture
from proponent.gradients.lanes import run_lanes, stretches
from proponent.gradients.layers import LayerPlan, Matrix
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import MomentSums, SecondMoments
from proponent.gradients.projection import gaussian_projection
from proponent.memory import Allowance, give_back
from proponent.products import product


@dataclass(frozen=True)
class FoldedSides:
    """Both projections of one matrix with the scales of V folded in, on the model's device.

    block: index b of the matrix's block.  inside: P_in D_c [p, i].
    outside: P_out D_r [p, o] of each module of the matrix.
    """

    block: int
    inside: Tensor
    outside: tuple[Tensor, ...]


class FeatureSums:
    """A capture sink that sums ``(P_out D_r d_t)(P_in D_c x_t)ᵀ`` into features [n, b, p, p].

    The inputs are projected as they pass forward, so no layer input outlives its layer; the [o, i]
    gradient is never formed.  Projections and sums over tokens are exact because V is rank one.
    """

    def __init__(
        self, sides: Mapping[str, FoldedSides], shape: tuple[int, ...], device: torch.device
    ) -> None:
        rows, blocks, *side = shape
        # a tensor a block: batched products are slow where their target is strided
        self._blocks = [torch.zeros(rows, *side, device=device) for _ in range(blocks)]
        self._sides = sides
        self._inputs: dict[str, Tensor] = {}
        self._slopes: dict[str, Tensor] = {}
        self._missing: dict[str, int] = {}

    @property
    def features(self) -> Tensor:
        """Features [n, d] of the batch, once the model has gone back through it."""
        return torch.stack(self._blocks, 1).flatten(1)

    def forward(self, matrix: Matrix, x: Tensor) -> None:
        """Project x [n, t, i] to [n, t, p]."""
        self._inputs[matrix.name] = product(x, self._sides[matrix.name].inside)
        self._missing[matrix.name] = len(matrix.modules)

    def backward(self, matrix: Matrix, slot: int, d: Tensor) -> None:
        """Project d [n, t, o] to [n, t, p]; when the last module has come, add the matrix's gradient."""
        sides, name = self._sides[matrix.name], matrix.name
        slope = product(d, sides.outside[slot])
        self._slopes[name] = self._slopes[name].add_(slope) if name in self._slopes else slope
        self._missing[name] -= 1
        if not self._missing[name]:
            x, slope = self._inputs.pop(name), self._slopes.pop(name)
            self._blocks[sides.block].baddbmm_(slope.transpose(1, 2), x)


class FeatureExtractor:
    """Turns token rows into influence features ``P_d (∇L / √V)`` of a model.

    moments: second moments by matrix name.  seed: of the projections.
    batch_tokens: tokens that are computed at once, padding included: of a batch, or of several side by side.
    """

    def __init__(
        self,
        model: LanguageModel,
        plan: LayerPlan,
        moments: Mapping[str, SecondMoments],
        seed: int,
        batch_tokens: int,
    ) -> None:
        self.model, self.plan, self.batch_tokens = model, plan, batch_tokens
        self._sides = {
            matrix.name: self._fold(matrix, b, moments[matrix.name], seed)
            for b, block in enumerate(plan.blocks)
            for matrix in block.matrices
        }

    def _fold(self, matrix: Matrix, block: int, moments: SecondMoments, seed: int) -> FoldedSides:
        projection = gaussian_projection(matrix, self.plan.side, seed)
        inside = moments.column_scale[:, None] * projection.in_side
        outside = (moments.row_scale[:, None] * projection.out_side).split(matrix.outputs)
        return FoldedSides(block, self._turned(inside), tuple(self._turned(side) for side in outside))

    def _turned(self, side: Tensor) -> Tensor:
        """A right factor [i, p] as a weight [p, i], on the model's device and in its precision."""
        return side.T.contiguous().to(self.model.device, self.model.dtype)

    def sums(self, rows: int) -> FeatureSums:
        """A fresh sink for a batch of so many rows."""
        p = self.plan.side
        return FeatureSums(self._sides, (rows, len(self.plan.blocks), p, p), self.model.device)

    def __call__(self, rows: Sequence[Sequence[int]], starts: Sequence[int], output: str) -> Tensor:
        """Features [n, d] float32 on the CPU, in the order of the rows; see ``extract``."""
        return extract([self], rows, starts, output)[0]


def extract(
    extractors: Sequence[FeatureExtractor],
    rows: Sequence[Sequence[int]],
    starts: Sequence[int],
    output: str,
    done: Callable[[Sequence[int]], None] | None = None,
) -> list[Tensor]:
    """Features [n, d] of each extractor, all from one pass of the model that they share.

    rows: token ids.  starts: index (>= 1) of the first token of each row that ``output`` scores.
    done: told the numbers of the rows of each batch when their features are there.
    Float32 on the CPU, in the order of the rows.  A row whose gradient is not finite comes back as it
    is; the caller decides.
    """
    first = extractors[0]
    features = [torch.empty(len(rows), extractor.plan.dim) for extractor in extractors]
    row_bytes = sum(part.element_size() * part.shape[1] for part in features)

    def work(model: LanguageModel, members: list[int]) -> list[Tensor]:
        sinks = [extractor.sums(len(members)) for extractor in extractors]
        with capture(model, first.plan.matrices, sinks):
            backpropagate(model, Batch.of([rows[n] for n in members], [starts[n] for n in members]), output)
        return [sink.features.cpu() for sink in sinks]

    made = 0
    for stretch in stretches([len(row) for row in rows], first.batch_tokens, first.model.device):
        allowance = Allowance(stretch.lanes)
        with closing(run_lanes(first.model, stretch, work)) as found:
            for members, parts in zip(stretch.groups, found, strict=True):
                for whole, part in zip(features, parts, strict=True):
                    whole[members] = part
                made += len(members)
                allowance.keep(made * row_bytes)
                if done is not None:
                    done(members)
        give_back()  # what follows counts from here what it takes
    return features


def sample_moments(
    model: LanguageModel, plan: LayerPlan, rows: Sequence[Sequence[int]], batch_tokens: int
) -> dict[str, SecondMoments]:
    """Second moments of the training loss's gradients over a sample of passages, by matrix name.

    rows: token ids of the sampled passages; each counts as one example, all its tokens summed.
    """
    total = MomentSums(plan.matrices)

    def work(model: LanguageModel, members: list[int]) -> MomentSums:
        sums = MomentSums(plan.matrices)
        with capture(model, plan.matrices, [sums]):
            backpropagate(model, Batch.of([rows[n] for n in members], [1] * len(members)))
        return sums

    for stretch in stretches([len(row) for row in rows], batch_tokens, model.device):
        with closing(run_lanes(model, stretch, work)) as found:
            for sums in found:
                total.add(sums)
        give_back()  # what follows counts from here what it takes
    return total.moments(len(rows))
