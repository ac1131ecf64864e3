"""The inner products that scores are made of: none, R_train's, or a task mix's; one interface.

All work on the one stored index of ψ = L⁻¹ φ, LLᵀ = R_train: ``φ_q · φ_m = (Lᵀ φ_q) · ψ_m``,
``φ_qᵀ R_train⁻¹ φ_m = ψ_q · ψ_m`` and ``φ_qᵀ R'⁻¹ φ_m = (R'⁻¹ ψ_q) · ψ_m``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from proponent.index.hessian import correlate, whiten
from proponent.index.mix import TaskMix
from proponent.index.search import Piece, ScanQueries

Factors = tuple[Tensor, ...]


class InnerProduct(Protocol):
    """How queries φ_q [q, d] meet passages ψ_m."""

    def queries(self, features: Tensor, factors: Factors) -> tuple[Tensor, Tensor]:
        """Vectors [q, d] whose dot products with ψ_m are the scores, and the queries' norms [q]."""

    def passage_norms(self, piece: Piece) -> Tensor:
        """Norms [c] of a piece's passages."""


@dataclass(frozen=True)
class Plain:
    """No Hessian: ``φ_q · φ_m``."""

    def queries(self, features: Tensor, factors: Factors) -> tuple[Tensor, Tensor]:
        """``Lᵀ φ_q`` and ``‖φ_q‖``."""
        return correlate(features, factors), features.norm(dim=1)

    def passage_norms(self, piece: Piece) -> Tensor:
        """``‖φ_m‖``."""
        return piece.feature_norm


@dataclass(frozen=True)
class Train:
    """R_train: ``φ_qᵀ R_train⁻¹ φ_m``."""

    def queries(self, features: Tensor, factors: Factors) -> tuple[Tensor, Tensor]:
        """``ψ_q`` and ``‖ψ_q‖``."""
        whitened = whiten(features, factors)
        return whitened, whitened.norm(dim=1)

    def passage_norms(self, piece: Piece) -> Tensor:
        """``‖ψ_m‖``."""
        return piece.whitened_norm


@dataclass(frozen=True)
class Mixed:
    """The task mix: ``φ_qᵀ (λ R_eval + (1 − λ) R_train)⁻¹ φ_m``."""

    mix: TaskMix

    def queries(self, features: Tensor, factors: Factors) -> tuple[Tensor, Tensor]:
        """``R'⁻¹ ψ_q`` and ``√(ψ_qᵀ R'⁻¹ ψ_q)``."""
        whitened = whiten(features.double(), factors)
        vectors = self.mix.solve(whitened)
        return vectors.float(), (vectors * whitened).sum(1).clamp_min(0).sqrt().float()

    def passage_norms(self, piece: Piece) -> Tensor:
        """``√(ψ_mᵀ R'⁻¹ ψ_m)``."""
        return self.mix.squared_norms(piece.whitened, piece.whitened_norm.square()).sqrt()


def scan_queries(
    features: Tensor, factors: Factors, inner_product: InnerProduct, unit_norm: bool
) -> ScanQueries:
    """Queries ready for the scan; without unit norm all norms are 1."""
    vectors, norms = inner_product.queries(features, factors)
    if unit_norm:
        return ScanQueries(vectors, norms, inner_product.passage_norms)
    return ScanQueries(vectors, torch.ones_like(norms), lambda piece: torch.ones_like(piece.feature_norm))
