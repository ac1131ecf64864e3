"""A random map from d coordinates to m that keeps inner products: what a compact index stores signs of.

    S = H · D₂ · F · D₁ · P

P shuffles the d coordinates, D₁ and D₂ flip signs, F adds those m apart, H is Hadamard's matrix over √m.  For
any a and b ``E⟨Sa, Sb⟩ = ⟨a, b⟩``, with a variance of at most ``2 ‖a‖² ‖b‖² / m`` (docs/theory.md, 9): less
than that of a two-sided projection of m coordinates, whose sides have only √(m / b) rows each.  H spreads
every coordinate over all m, so that they are alike and nearly Gaussian, which signs need.  A row takes
d + m log₂ m additions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sketch:
    """The map S [m, d].

    dim: d >= 1.  size: m, a power of two.  seed: of what is random, by numpy's Philox: the same with every
    version of it.
    """

    dim: int
    size: int
    seed: int

    def __call__(self, rows: Tensor) -> Tensor:
        """``S a`` [n, m] of rows a [n, d], in their precision."""
        spare = self._places - self.dim
        padded = torch.cat([rows, rows.new_zeros(len(rows), spare)], 1) if spare else rows
        shuffled = padded.index_select(1, self._order).mul_(self._signs[: self._places])
        folded = shuffled[:, : self.size].contiguous()
        for start in range(self.size, self._places, self.size):
            folded += shuffled[:, start : start + self.size]
        return hadamard(folded.mul_(self._signs[self._places :]))

    def transposed(self, sketched: Tensor) -> Tensor:
        """``Sᵀ c`` [n, d] of rows c [n, m]: ``⟨Sᵀ c, a⟩ = ⟨c, S a⟩``."""
        spread = hadamard(sketched.clone()).mul_(self._signs[self._places :])
        shuffled = spread.repeat(1, self._places // self.size).mul_(self._signs[: self._places])
        return shuffled[:, self._order.argsort()[: self.dim]]

    def transposed_norms(self, sketched: Tensor) -> Tensor:
        """``‖Sᵀ c‖`` [n] of rows c [n, m]; no row of d coordinates is made."""
        folded = (self._order < self.dim).view(-1, self.size).sum(0)
        return (hadamard(sketched.clone()).square_() @ folded.to(sketched.dtype)).sqrt()

    @property
    def _places(self) -> int:
        """Coordinates of the shuffled row, d or more: a multiple of m, zeros scattered among them."""
        return -(-self.dim // self.size) * self.size

    @cached_property
    def _drawn(self) -> npt.NDArray[np.uint64]:
        """A random number a place of the shuffled row and a coordinate of the sketch."""
        return np.random.Philox(self.seed).random_raw(self._places + self.size)

    @cached_property
    def _order(self) -> Tensor:
        """P: where each place of the shuffled row comes from; beyond d from nowhere."""
        return torch.from_numpy(np.argsort(self._drawn[: self._places], kind="stable"))

    @cached_property
    def _signs(self) -> Tensor:
        """Signs ±1 of D₁ and D₂: by the lowest bits, which do not decide the order."""
        return torch.from_numpy((self._drawn & 1).astype(np.float32)) * 2 - 1


def hadamard(rows: Tensor) -> Tensor:
    """Rows [n, m] times Hadamard's matrix (Sylvester's) over √m, in place; m is a power of two.

    It is orthogonal and its own inverse.  By butterflies: each number is one sum of the same order, whatever
    rows are beside it.
    """
    count, size = rows.shape
    reach = 1
    while reach < size:
        low, high = rows.view(count, -1, 2, reach).unbind(2)
        difference = low - high
        low += high
        high.copy_(difference)
        reach *= 2
    return rows.mul_(size**-0.5)


def kept_width(spec: Mapping[str, Any], blocks: int, width: int) -> int:
    """Coordinates of a block of w that a run's rows are made of.

    Of a compact run with R_train, whose first eigenvectors tell most, no more than it has signs for.
    """
    if not spec["size"] or spec["hessian"] == "identity":
        return width
    return max(1, min(width, 8 * int(spec["size"]) // blocks))


def sketch_of(spec: Mapping[str, Any], blocks: int, width: int) -> Sketch | None:
    """The sketch of a compact run, by its spec, for blocks of w coordinates; None for a full run."""
    dim = blocks * kept_width(spec, blocks, width)
    return Sketch(dim, 8 * int(spec["size"]), int(spec["seed"])) if spec["size"] else None
