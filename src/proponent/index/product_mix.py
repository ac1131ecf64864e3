"""The task mix from inner products alone, for features too long to be held.

With inner products between a task's T queries Ψ [T, D] of a block and all that is compared, D never appears:

    R' = (1 − λ) I + (λ / T) ΨᵀΨ,     R'⁻¹ = (I − s Ψᵀ (I + s ΨΨᵀ)⁻¹ Ψ) / (1 − λ),     s = λ / ((1 − λ) T)

by Woodbury's identity; ``index/mix.py`` has the same for features that are at hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class ProductMix:
    """A task mix of b blocks in coordinates where R_train is the identity.

    gram: ΨΨᵀ [b, T, T] of the task's queries, float64; of none (T = 0) where there is no task.  mix: λ in
    [0, 1).
    """

    gram: Tensor
    mix: float

    def products(self, between: Tensor, queries: Tensor, passages: Tensor) -> Tensor:
        """``Σ_b ψ_qᵀ R'⁻¹ ψ_m`` [q, n] from ``ψ_qᵀ ψ_m`` [b, q, n].

        queries, passages: the task's products with both, [b, T, q] and [b, T, n].
        """
        inside = self._within(queries).transpose(1, 2) @ self._within(passages)
        made: Tensor = (between - inside).sum(0) / (1 - self.mix)
        return made

    def norms(self, squared: Tensor, products: Tensor) -> Tensor:
        """``√(Σ_b ψᵀ R'⁻¹ ψ)`` [n] from ``‖ψ‖²`` [b, n] and the task's products with them, [b, T, n]."""
        left = (squared - self._within(products).square().sum(1)).sum(0)
        made: Tensor = (left.clamp(min=0) / (1 - self.mix)).sqrt()
        return made

    def _within(self, products: Tensor) -> Tensor:
        """``√s F⁻¹ Ψψ`` [b, T, n], where ``F Fᵀ = I + s ΨΨᵀ``."""
        solved: Tensor = torch.linalg.solve_triangular(self._factor, products, upper=False)
        return math.sqrt(self._share) * solved

    @property
    def _share(self) -> float:
        """s: what a query of the task adds to R' beside (1 − λ) I."""
        return self.mix / ((1 - self.mix) * max(1, self.gram.shape[1]))

    @cached_property
    def _factor(self) -> Tensor:
        """F [b, T, T], lower."""
        even = torch.eye(self.gram.shape[1], dtype=self.gram.dtype)
        made: Tensor = torch.linalg.cholesky(even + self._share * self.gram)
        return made
