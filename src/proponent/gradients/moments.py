"""Rank-one second moments V ≈ r cᵀ / Σr of weight gradients, folded into projections (DESIGN 1.4)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from proponent.gradients.layers import LayerPlan, Matrix
from proponent.gradients.projection import Projection, gaussian_projection
from proponent.gradients.sweep import Sweep

# Second moments count as at least this share of their mean: no scale exceeds 1000 times the typical.
FLOOR = 1e-6


@dataclass(frozen=True)
class SecondMoments:
    """Adafactor's factored second moment of one matrix (Shazeer & Stern, 2018, eq. 4).

    rows: r [o], sums over inputs of V.  columns: c [i], sums over outputs of V.  float32, >= 0.
    of_mean: whether V is of a batch's mean loss a token, as optimizers keep it, not of a passage's summed
    loss.  Unit-norm scores do not depend on this unit; a tail-patch step does.
    """

    rows: Tensor
    columns: Tensor
    of_mean: bool = False

    @classmethod
    def ones(cls, matrix: Matrix) -> SecondMoments:
        """V of ones: no correction, through the same code."""
        outputs = sum(matrix.outputs)
        return cls(torch.full((outputs,), float(matrix.inputs)), torch.full((matrix.inputs,), float(outputs)))

    @classmethod
    def of_full(cls, second_moment: Tensor) -> SecondMoments:
        """The best rank-one form, in I-divergence, of a full V [o, i]: its row and column sums."""
        full = second_moment.double()
        return cls(full.sum(1).float(), full.sum(0).float())

    @property
    def row_scale(self) -> Tensor:
        """D_r [o] of ``G / √V = D_r G D_c``."""
        return _scale(self.rows)

    @property
    def column_scale(self) -> Tensor:
        """D_c [i] of ``G / √V = D_r G D_c``."""
        return _scale(self.columns)

    def fold(self, projection: Projection) -> Projection:
        """``P_out D_r`` and ``P_in D_c``: projecting a gradient with these corrects it by V as well."""
        in_side = self.column_scale[:, None] * projection.in_side
        return Projection(in_side, self.row_scale[:, None] * projection.out_side)


def _scale(sums: Tensor) -> Tensor:
    """``(sums / √Σ)^(-1/2)``: the normaliser Σ is shared evenly between the two sides.

    A matrix that had no gradient at all is left uncorrected, with scales of one.
    """
    floored = sums.double().clamp_min(FLOOR * sums.double().mean())
    total = floored.sum()
    return torch.where(total > 0, (total.sqrt() / floored).sqrt(), 1.0).float()


def fold_moments(plan: LayerPlan, moments: Mapping[str, SecondMoments], seed: int) -> dict[str, Projection]:
    """The projections of a plan's matrices for a seed, with second moments folded in, by matrix name."""
    return {m.name: moments[m.name].fold(gaussian_projection(m, plan.side, seed)) for m in plan.matrices}


class WholeFactors(ABC):
    """A capture that brings a matrix's inputs and the gradients at all its outputs together."""

    def __init__(self) -> None:
        self._inputs: dict[str, Tensor] = {}
        self._outputs: dict[str, dict[int, Tensor]] = {}

    @abstractmethod
    def add(self, matrix: Matrix, x: Tensor, d: Tensor) -> None:
        """Take the factors x [n, t, i] and d [n, t, o] of the gradients ``dᵀ x`` of a matrix, float32."""

    def forward(self, matrix: Matrix, x: Tensor) -> None:
        """Keep x [n, t, i] until the gradients at all outputs have arrived."""
        self._inputs[matrix.name] = x.float()
        self._outputs[matrix.name] = {}

    def backward(self, matrix: Matrix, slot: int, d: Tensor) -> None:
        """Keep d [n, t, o]; when the last module has come, take the matrix's factors."""
        name, parts = matrix.name, self._outputs[matrix.name]
        parts[slot] = d.float()
        if len(parts) == len(matrix.modules):
            d = torch.cat([parts.pop(n) for n in range(len(matrix.modules))], 2)
            self.add(matrix, self._inputs.pop(name), d)


class MomentSums(WholeFactors):
    """Sums of G∘G over rows and columns, one gradient an example; a capture of one batch as well as the sink.

    Row sums of G∘G are ``Σ_t ((x xᵀ) d ∘ d)`` and column sums ``Σ_t ((d dᵀ) x ∘ x)``; no G is formed.
    """

    def __init__(self, matrices: Sequence[Matrix]) -> None:
        super().__init__()
        self._matrices = matrices
        self._rows = {m.name: torch.zeros(sum(m.outputs), dtype=torch.float64) for m in matrices}
        self._columns = {m.name: torch.zeros(m.inputs, dtype=torch.float64) for m in matrices}

    def add(self, matrix: Matrix, x: Tensor, d: Tensor) -> None:
        """Add the squares of the gradient of every example n that has a finite one."""
        rows = ((x @ x.transpose(1, 2)) @ d).mul_(d).sum(1).double().cpu()  # [n, o]
        columns = ((d @ d.transpose(1, 2)) @ x).mul_(x).sum(1).double().cpu()  # [n, i]
        finite = rows.isfinite().all(1) & columns.isfinite().all(1)
        self._rows[matrix.name] += rows[finite].sum(0)
        self._columns[matrix.name] += columns[finite].sum(0)

    def open(self, _: int) -> MomentSums:
        """Fresh sums for a batch."""
        return MomentSums(self._matrices)

    def take(self, _: Sequence[int], captured: MomentSums) -> None:
        """Add the sums of a batch."""
        for mine, theirs in ((self._rows, captured._rows), (self._columns, captured._columns)):
            for name, values in theirs.items():
                mine[name] += values

    def moments(self, examples: int) -> dict[str, SecondMoments]:
        """Means over ``examples`` gradients, by matrix name."""

        def mean(sums: Tensor) -> Tensor:
            return sums.clamp_min(0).div(examples).float()

        return {name: SecondMoments(mean(r), mean(self._columns[name])) for name, r in self._rows.items()}


def sample_moments(
    sweep: Sweep,
    rows: Sequence[Sequence[int]],
    starts: Sequence[int],
    done: Callable[[Sequence[int]], None] | None = None,
) -> dict[str, SecondMoments]:
    """Second moments of the loss's gradients by matrix name, each row one example; arguments as ``Sweep``."""
    sums = MomentSums(sweep.matrices)
    sweep(rows, starts, [sums], done=done)
    return sums.moments(len(rows))


def pack_moments(moments: Mapping[str, SecondMoments]) -> dict[str, Tensor]:
    """Second moments as named tensors ``NAME/rows``, ``NAME/columns`` and ``NAME/of_mean``, for a file."""
    packed: dict[str, Tensor] = {}
    for name, value in moments.items():
        of_mean = torch.tensor([float(value.of_mean)])
        parts = {"rows": value.rows, "columns": value.columns, "of_mean": of_mean}
        packed |= {f"{name}/{part}": tensor.contiguous() for part, tensor in parts.items()}
    return packed


def unpack_moments(tensors: Mapping[str, Tensor]) -> dict[str, SecondMoments]:
    """The inverse of ``pack_moments``."""
    moments = {}
    for name in (key.removesuffix("/rows") for key in tensors if key.endswith("/rows")):
        rows, columns, of_mean = (tensors[f"{name}/{part}"] for part in ("rows", "columns", "of_mean"))
        moments[name] = SecondMoments(rows, columns, bool(of_mean))
    return moments
