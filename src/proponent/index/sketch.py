"""A random map from d coordinates to m that keeps inner products: what a compact index stores signs of.

    S = H · D₂ · F · D₁      F folds d coordinates onto m, D₁ and D₂ flip signs, H is Hadamard's matrix / √m

Folding adds coordinates m apart.  Over the random signs ``E⟨Sa, Sb⟩ = ⟨a, b⟩``, with a variance of at most
``2 ‖a‖² ‖b‖² / m`` (docs/theory.md): less than that of a two-sided projection of the same size, whose terms
have only p = √(d / b) independent rows.  H spreads every coordinate over all m, so that they are alike and
nearly Gaussian, which signs need.  It takes d + m log₂ m additions a row and no memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sketch:
    """The map S [m, d].

    dim: d >= 1.  size: m, a power of two.  seed: of the signs, which numpy's Philox gives: the same with
    every version of it.
    """

    dim: int
    size: int
    seed: int

    def __call__(self, rows: Tensor) -> Tensor:
        """``S a`` [n, m] of rows a [n, d], in their precision."""
        folds = -(-self.dim // self.size)
        folded = rows.new_zeros(len(rows), self.size)
        for fold in range(folds):
            start, stop = fold * self.size, min((fold + 1) * self.size, self.dim)
            folded[:, : stop - start] += rows[:, start:stop] * self._signs[start:stop]
        return hadamard(folded.mul_(self._signs[self.dim :]))

    def transposed(self, sketched: Tensor) -> Tensor:
        """``Sᵀ c`` [n, d] of rows c [n, m]: ``⟨Sᵀ c, a⟩ = ⟨c, S a⟩``."""
        spread = hadamard(sketched.clone()).mul_(self._signs[self.dim :])
        folds = -(-self.dim // self.size)
        return spread.repeat(1, folds)[:, : self.dim] * self._signs[: self.dim]

    def transposed_norms(self, sketched: Tensor) -> Tensor:
        """``‖Sᵀ c‖`` [n] of rows c [n, m]; no row of d coordinates is made."""
        spread = hadamard(sketched.clone())
        folded = torch.arange(self.size).neg_().add_(self.dim - 1).div(self.size, rounding_mode="floor") + 1
        return (spread.square_() @ folded.to(spread.dtype)).sqrt()

    @cached_property
    def _signs(self) -> Tensor:
        """Signs [d + m], ±1: of D₁ and of D₂."""
        count = self.dim + self.size
        words = np.random.Philox(self.seed).random_raw(-(-count // 64)).astype("<u8")
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")[:count]
        return torch.from_numpy(bits.astype(np.float32)) * 2 - 1


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
