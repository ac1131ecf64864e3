"""A random map from d coordinates to m that keeps inner products: what a compact index stores signs of.

    S = H · D₂ · F · D₁ · P

P shuffles the d coordinates, D₁ and D₂ flip signs, F adds those m apart, H is Hadamard's matrix over √m.  For
any a and b ``E⟨Sa, Sb⟩ = ⟨a, b⟩``, with a variance of at most ``2 ‖a‖² ‖b‖² / m`` (docs/theory.md, 9): less
than that of a two-sided projection of m coordinates, whose sides have only √(m / b) rows each.  H spreads
every coordinate over all m, so that they are alike and nearly Gaussian, which signs need.  A row takes
d + m log₂ m additions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
        shuffled = rows.index_select(1, self._order).mul_(self._signs[: self.dim])
        folded = rows.new_zeros(len(rows), self.size)
        for part in shuffled.split(self.size, 1):
            folded[:, : part.shape[1]] += part
        return hadamard(folded.mul_(self._signs[self.dim :]))

    def transposed(self, sketched: Tensor) -> Tensor:
        """``Sᵀ c`` [n, d] of rows c [n, m]: ``⟨Sᵀ c, a⟩ = ⟨c, S a⟩``."""
        spread = hadamard(sketched.clone()).mul_(self._signs[self.dim :])
        folds = -(-self.dim // self.size)
        shuffled = spread.repeat(1, folds)[:, : self.dim] * self._signs[: self.dim]
        return shuffled[:, self._order.argsort()]

    def transposed_norms(self, sketched: Tensor) -> Tensor:
        """``‖Sᵀ c‖`` [n] of rows c [n, m]; no row of d coordinates is made."""
        spread = hadamard(sketched.clone())
        folded = torch.arange(self.size).neg_().add_(self.dim - 1).div(self.size, rounding_mode="floor") + 1
        return (spread.square_() @ folded.to(spread.dtype)).sqrt()

    @cached_property
    def _drawn(self) -> npt.NDArray[np.uint64]:
        """A random number [d + m] a coordinate of the row and of the sketch."""
        return np.random.Philox(self.seed).random_raw(self.dim + self.size)

    @cached_property
    def _order(self) -> Tensor:
        """P: where each coordinate [d] of the shuffled row comes from."""
        return torch.from_numpy(np.argsort(self._drawn[: self.dim], kind="stable"))

    @cached_property
    def _signs(self) -> Tensor:
        """Signs [d + m], ±1, of D₁ and D₂: by the lowest bits, which do not decide the order."""
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
