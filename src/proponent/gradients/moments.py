"""Rank-one second moments V ≈ r cᵀ / Σr of weight gradients, folded into two scales (DESIGN 1.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from proponent.gradients.layers import Matrix

# A row or column whose gradients were (nearly) zero in the sample would get an unbounded scale; its
# second moment counts as at least this share of the mean, so no scale exceeds 1000 times the typical.
FLOOR = 1e-6


@dataclass(frozen=True)
class SecondMoments:
    """Adafactor's factored second moment of one matrix (Shazeer & Stern, 2018, eq. 4).

    rows: r [o], sums over inputs of V.  columns: c [i], sums over outputs of V.  float32, >= 0.
    """

    rows: Tensor
    columns: Tensor

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


def _scale(sums: Tensor) -> Tensor:
    """``(sums / √Σ)^(-1/2)``: the normaliser Σ is shared evenly between the two sides.

    A matrix that had no gradient at all is left uncorrected, with scales of one.
    """
    floored = sums.double().clamp_min(FLOOR * sums.double().mean())
    total = floored.sum()
    return torch.where(total > 0, (total.sqrt() / floored).sqrt(), 1.0).float()


class MomentSums:
    """A capture sink that sums G∘G over rows and columns, one gradient an example, forming none.

    Row sums of G∘G are ``Σ_t ((x xᵀ) d ∘ d)`` and column sums ``Σ_t ((d dᵀ) x ∘ x)``, where ``d dᵀ`` is
    summed over the modules of a matrix.
    """

    def __init__(self, matrices: Sequence[Matrix]) -> None:
        self._inputs: dict[str, Tensor] = {}
        self._slopes: dict[str, dict[int, Tensor]] = {}
        self._rows = {m.name: torch.zeros(sum(m.outputs), dtype=torch.float64) for m in matrices}
        self._columns = {m.name: torch.zeros(m.inputs, dtype=torch.float64) for m in matrices}

    def forward(self, matrix: Matrix, x: Tensor) -> None:
        """Keep x [n, t, i] until the gradients at all outputs have arrived."""
        self._inputs[matrix.name] = x.float()
        self._slopes[matrix.name] = {}

    def backward(self, matrix: Matrix, slot: int, d: Tensor) -> None:
        """Add the squares of the gradient ``dᵀ x`` of every example n that has a finite one."""
        name, slopes = matrix.name, self._slopes[matrix.name]
        slopes[slot] = d.float()
        if len(slopes) < len(matrix.modules):
            return
        x, d = self._inputs.pop(name), torch.cat([slopes.pop(n) for n in range(len(matrix.modules))], 2)
        rows = ((x @ x.transpose(1, 2)) @ d).mul_(d).sum(1).double().cpu()  # [n, o]
        columns = ((d @ d.transpose(1, 2)) @ x).mul_(x).sum(1).double().cpu()  # [n, i]
        finite = rows.isfinite().all(1) & columns.isfinite().all(1)
        self._rows[name] += rows[finite].sum(0)
        self._columns[name] += columns[finite].sum(0)

    def add(self, others: MomentSums) -> None:
        """Add the sums of other examples."""
        for mine, theirs in ((self._rows, others._rows), (self._columns, others._columns)):
            for name, values in theirs.items():
                mine[name] += values

    def moments(self, examples: int) -> dict[str, SecondMoments]:
        """Means over ``examples`` gradients, by matrix name."""
        return {
            name: SecondMoments(
                rows.clamp_min(0).div(examples).float(),
                self._columns[name].clamp_min(0).div(examples).float(),
            )
            for name, rows in self._rows.items()
        }


def pack_moments(moments: Mapping[str, SecondMoments]) -> dict[str, Tensor]:
    """Second moments as named tensors ``NAME/rows`` and ``NAME/columns``, for a file."""
    packed = {}
    for name, value in moments.items():
        packed[f"{name}/rows"] = value.rows.contiguous()
        packed[f"{name}/columns"] = value.columns.contiguous()
    return packed


def unpack_moments(tensors: Mapping[str, Tensor]) -> dict[str, SecondMoments]:
    """The inverse of ``pack_moments``."""
    names = [key.removesuffix("/rows") for key in tensors if key.endswith("/rows")]
    return {name: SecondMoments(tensors[f"{name}/rows"], tensors[f"{name}/columns"]) for name in names}
