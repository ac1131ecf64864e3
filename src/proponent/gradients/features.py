"""Influence features of token rows: projected, V-corrected gradients, summed over matrices and tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from proponent.gradients.layers import LayerPlan, Matrix
from proponent.gradients.model import LanguageModel
from proponent.gradients.projection import Projection
from proponent.gradients.sweep import Sweep
from proponent.products import product


class _Sides(NamedTuple):
    """A folded projection of one matrix as weights, in the model's precision and on the matrix's device.

    block: index b.  inside: P_in D_c [p, i].  outside: P_out D_r [p, o] of each module.
    """

    block: int
    inside: Tensor
    outside: list[Tensor]


class ProjectedFactors(ABC):
    """A capture of both projected factors of every matrix's gradient: ``P_in D_c x_t`` and ``P_out D_r d_t``.

    Inputs are projected during the forward pass, so no layer input outlives its layer; the [o, i] gradient
    is never formed.
    """

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._sides = extractor.sides
        self._inputs: dict[str, Tensor] = {}
        self._outputs: dict[str, list[Tensor]] = {}

    @abstractmethod
    def add(self, matrix: Matrix, x: Tensor, d: Tensor) -> None:
        """Take the factors x, d [n, t, p] of a matrix."""

    def forward(self, matrix: Matrix, x: Tensor) -> None:
        """Project x [n, t, i] to [n, t, p]."""
        self._inputs[matrix.name] = product(x, self._sides[matrix.name].inside)
        self._outputs[matrix.name] = []

    def backward(self, matrix: Matrix, slot: int, d: Tensor) -> None:
        """Project d [n, t, o] to [n, t, p]; when the last module has come, add the matrix's gradient."""
        name, sides, parts = matrix.name, self._sides[matrix.name], self._outputs[matrix.name]
        parts.append(product(d, sides.outside[slot]))
        if len(parts) == len(matrix.modules):
            x, d = self._inputs.pop(name), reduce(torch.add, self._outputs.pop(name))
            self.add(matrix, x, d)


class _BatchFeatures(ProjectedFactors):
    """A capture that sums ``(P_out D_r d_t)(P_in D_c x_t)ᵀ`` over tokens into features [n, b, p, p].

    Projecting before summing over tokens is exact because the correction is two-sided.
    """

    def __init__(self, extractor: FeatureExtractor, rows: int) -> None:
        super().__init__(extractor)
        self._device, shape = extractor.sweep.model.device, (rows, extractor.plan.side, extractor.plan.side)
        # a tensor a block: batched products are slow where their target is strided; and one a device, since
        # a block's layers may lie on two
        self._sums = [
            {place: torch.zeros(shape, device=place) for place in each} for each in extractor.places
        ]

    @property
    def features(self) -> Tensor:
        """Features [n, d] of the batch after its backward pass, on the model's device."""
        parts = ((part.to(self._device) for part in sums.values()) for sums in self._sums)
        return torch.stack([reduce(torch.add, each) for each in parts], 1).flatten(1)

    def add(self, matrix: Matrix, x: Tensor, d: Tensor) -> None:
        """Sum over tokens, where they are."""
        self._sums[self._sides[matrix.name].block][x.device].baddbmm_(d.transpose(1, 2), x)


class FeatureSink:
    """A sink of the features of so many rows, those without a finite gradient included.

    A card's features come over while it goes on with the next batch.
    """

    def __init__(self, extractor: FeatureExtractor, rows: int) -> None:
        self._extractor, self._device = extractor, extractor.sweep.model.device
        self._on_card = self._device.type == "cuda"
        self._features = torch.empty(rows, extractor.plan.dim, pin_memory=self._on_card)

    @property
    def features(self) -> Tensor:
        """Features [n, d] float32 on the CPU, once all that was taken is there."""
        if self._on_card:
            torch.cuda.synchronize(self._device)
        return self._features

    def open(self, rows: int) -> _BatchFeatures:
        """A capture for a batch of so many rows."""
        return _BatchFeatures(self._extractor, rows)

    def take(self, members: Sequence[int], captured: _BatchFeatures) -> None:
        """Put a batch's features where its rows belong."""
        for n, row in zip(members, captured.features, strict=True):
            self._features[n].copy_(row, non_blocking=True)


class FeatureExtractor:
    """Turns token rows into influence features ``P_d (∇L / √V)`` of a model.

    folded: projections with the second moments folded in, by matrix name; see ``fold_moments``.
    batch_tokens: tokens that are computed at once, padding included: of a batch, or of several side by side.
    """

    def __init__(
        self, model: LanguageModel, plan: LayerPlan, folded: Mapping[str, Projection], batch_tokens: int
    ) -> None:
        self.plan, self.sweep = plan, Sweep(model, plan.matrices, batch_tokens)
        self.sides: dict[str, _Sides] = {}
        self.places: list[list[torch.device]] = []  # of each block's matrices
        for b, block in enumerate(plan.blocks):
            at = {matrix.name: model.device_of(matrix.name) for matrix in block.matrices}
            self.places.append(list(dict.fromkeys(at.values())))
            for matrix in block.matrices:
                factors = (folded[matrix.name].in_side, *folded[matrix.name].out_side.split(matrix.outputs))
                inside, *outside = (f.T.contiguous().to(at[matrix.name], model.dtype) for f in factors)
                self.sides[matrix.name] = _Sides(b, inside, outside)

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
    """Features [n, d] of each extractor, all from one sweep of the model that they share; see ``Sweep``."""
    sinks = [FeatureSink(extractor, len(rows)) for extractor in extractors]
    extractors[0].sweep(rows, starts, sinks, output, done)
    return [sink.features for sink in sinks]
