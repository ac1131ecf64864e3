"""Inner products of whole corrected gradients, without any projection and without forming a gradient.

    ⟨G̃_q, G̃_m⟩ = Σ_{u, t} (d̃_u · d̃_t)(x̃_u · x̃_t)      over tokens u of q and t of m, summed over matrices

What the correction does to the factors is what it does to a projection that is the identity, so the factors
come from the extractor that features come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from proponent.gradients.features import FeatureExtractor, ProjectedFactors
from proponent.gradients.layers import Matrix
from proponent.gradients.projection import Projection
from proponent.products import product


def identity_projection(matrix: Matrix) -> Projection:
    """The projection of a matrix that leaves its gradient as it is."""
    return Projection(torch.eye(matrix.inputs), torch.eye(sum(matrix.outputs)))


@dataclass(frozen=True)
class WholeGradients:
    """Corrected gradients of n rows as the factors of their tokens.

    factors: x̃ [t, i] and d̃ [t, o] by matrix name, the tokens of all rows one after another.  rows: [t] the
    row that each token is of.  norms: ‖G̃‖ [b, n] in each block, float64.
    """

    factors: Mapping[str, tuple[Tensor, Tensor]]
    rows: Tensor
    norms: Tensor

    def __len__(self) -> int:
        return self.norms.shape[1]


class _Kept(ProjectedFactors):
    """A capture that keeps the factors x [n, t, i] and d [n, t, o] of a batch by matrix name."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__(extractor)
        self.factors: dict[str, tuple[Tensor, Tensor]] = {}
        self.blocks = {name: sides.block for name, sides in extractor.sides.items()}
        self._parts: dict[str, dict[int, Tensor]] = {}

    def backward(self, matrix: Matrix, slot: int, d: Tensor) -> None:
        """Correct d [n, t, o] of one module: its projection is zero in the outputs of the others."""
        parts = self._parts.setdefault(matrix.name, {})
        start, width = sum(matrix.outputs[:slot]), matrix.outputs[slot]
        parts[slot] = product(d, self._sides[matrix.name].outside[slot][start : start + width])
        if len(parts) == len(matrix.modules):
            whole = torch.cat([parts[place] for place in range(len(parts))], -1)
            self.add(matrix, self._inputs.pop(matrix.name), whole)

    def add(self, matrix: Matrix, x: Tensor, d: Tensor) -> None:
        """Keep them."""
        self.factors[matrix.name] = (x, d)

    def norms(self, blocks: int) -> Tensor:
        """‖G̃‖ [b, n] of the rows, float64."""
        squared: list[Tensor | float] = [0.0] * blocks
        for name, (x, d) in self.factors.items():
            pairs = (x @ x.transpose(1, 2)) * (d @ d.transpose(1, 2))
            squared[self.blocks[name]] += pairs.double().sum((1, 2)).cpu()
        return torch.stack([torch.as_tensor(total) for total in squared]).clamp(min=0).sqrt()


class _Collected:
    """A sink that collects whole gradients; those of many rows take much memory."""

    def __init__(self, extractor: FeatureExtractor, lengths: Sequence[int]) -> None:
        self._extractor, self._lengths = extractor, lengths
        self._parts: dict[int, dict[str, tuple[Tensor, Tensor]]] = {}
        self._norms = torch.zeros(len(extractor.plan.blocks), len(lengths), dtype=torch.float64)

    def open(self, _: int) -> _Kept:
        """A capture for a batch."""
        return _Kept(self._extractor)

    def take(self, members: Sequence[int], captured: _Kept) -> None:
        """Keep the factors of each row's tokens that predict."""
        self._norms[:, list(members)] = captured.norms(len(self._norms))
        for row, n in enumerate(members):
            reads = self._lengths[n] - 1
            kept = captured.factors.items()
            self._parts[n] = {name: (x[row, :reads].clone(), d[row, :reads].clone()) for name, (x, d) in kept}

    def gradients(self) -> WholeGradients:
        """What was collected."""
        parts = [self._parts[n] for n in range(len(self._lengths))]
        factors = {
            name: (torch.cat([part[name][0] for part in parts]), torch.cat([part[name][1] for part in parts]))
            for name in parts[0]
        }
        rows = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor(self._lengths) - 1)
        return WholeGradients(factors, rows, self._norms)


class _Norms:
    """A sink that fills ``norms`` [b, n] of rows."""

    def __init__(self, extractor: FeatureExtractor, rows: int) -> None:
        self._extractor = extractor
        self.norms = torch.zeros(len(extractor.plan.blocks), rows, dtype=torch.float64)

    def open(self, _: int) -> _Kept:
        """A capture for a batch."""
        return _Kept(self._extractor)

    def take(self, members: Sequence[int], captured: _Kept) -> None:
        """Keep the norms of a batch's rows."""
        self.norms[:, list(members)] = captured.norms(len(self.norms))


class _Pairs(_Norms):
    """A sink that also fills ``products`` [b, q, n] of rows with whole gradients."""

    def __init__(self, extractor: FeatureExtractor, queries: WholeGradients, rows: int) -> None:
        super().__init__(extractor, rows)
        self._queries = queries
        self.products = torch.zeros(len(self.norms), len(queries), rows, dtype=torch.float64)

    def take(self, members: Sequence[int], captured: _Kept) -> None:
        """Compare the tokens of a batch's rows with those of the queries."""
        super().take(members, captured)
        places = list(members)
        for name, (x, d) in captured.factors.items():
            ours, gradients = self._queries.factors[name]
            pairs = product(x, ours).mul_(product(d, gradients))  # [n, t, tokens of queries]
            summed = pairs.sum(1).double().cpu()
            made = torch.zeros(len(places), len(self._queries), dtype=torch.float64)
            self.products[captured.blocks[name]][:, places] += made.index_add_(
                1, self._queries.rows, summed
            ).T


def whole_gradients(
    extractor: FeatureExtractor, rows: Sequence[Sequence[int]], starts: Sequence[int], output: str
) -> WholeGradients:
    """Whole corrected gradients of rows; extractor: of identity projections.  Arguments as of ``Sweep``."""
    sink = _Collected(extractor, [len(row) for row in rows])
    extractor.sweep(rows, starts, [sink], output)
    return sink.gradients()


def exact_products(
    extractor: FeatureExtractor,
    queries: WholeGradients,
    rows: Sequence[Sequence[int]],
    starts: Sequence[int],
    output: str,
    done: Callable[[Sequence[int]], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Inner products [b, q, n] with queries in each block, and norms [b, n], float64, of rows; one sweep."""
    sink = _Pairs(extractor, queries, len(rows))
    extractor.sweep(rows, starts, [sink], output, done)
    return sink.products, sink.norms


def whole_norms(
    extractor: FeatureExtractor, rows: Sequence[Sequence[int]], starts: Sequence[int], output: str
) -> Tensor:
    """Norms ‖G̃‖ [b, n] float64 of rows in each block.  Arguments as of ``whole_gradients``."""
    sink = _Norms(extractor, len(rows))
    extractor.sweep(rows, starts, [sink], output)
    return sink.norms
