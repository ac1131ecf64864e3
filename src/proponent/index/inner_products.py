"""The inner products that scores are made of: none, R_train's, or a task mix's; one interface.

All work on the one stored index of ψ = L⁻¹ φ, LLᵀ = R_train: ``φ_q · φ_m = (Lᵀ φ_q) · ψ_m``,
``φ_qᵀ R_train⁻¹ φ_m = ψ_q · ψ_m`` and ``φ_qᵀ R'⁻¹ φ_m = (R'⁻¹ ψ_q) · ψ_m``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from proponent.index.hessian import correlate, whiten
from proponent.index.mix import MixedScan, TaskMix
from proponent.index.search import Scan, VectorScan

Factors = tuple[Tensor, ...]


class InnerProduct(Protocol):
    """How queries φ_q [q, d] meet passages ψ_m."""

    def scan(self, features: Tensor, factors: Factors, unit_norm: bool) -> Scan:
        """Queries ready for the scan; factors: L of R_train, by block."""


@dataclass(frozen=True)
class Plain:
    """No Hessian: ``φ_q · φ_m``."""

    def scan(self, features: Tensor, factors: Factors, unit_norm: bool) -> Scan:
        """``Lᵀ φ_q``, with ``‖φ_q‖`` and ``‖φ_m‖``."""
        norms = features.norm(dim=1) if unit_norm else None
        return VectorScan(correlate(features, factors), norms, lambda piece: piece.feature_norm)


@dataclass(frozen=True)
class Train:
    """R_train: ``φ_qᵀ R_train⁻¹ φ_m``."""

    def scan(self, features: Tensor, factors: Factors, unit_norm: bool) -> Scan:
        """``ψ_q``, with ``‖ψ_q‖`` and ``‖ψ_m‖``."""
        whitened = whiten(features, factors)
        norms = whitened.norm(dim=1) if unit_norm else None
        return VectorScan(whitened, norms, lambda piece: piece.whitened_norm)


@dataclass(frozen=True)
class Mixed:
    """The task mix: ``φ_qᵀ (λ R_eval + (1 − λ) R_train)⁻¹ φ_m``."""

    mix: TaskMix

    def scan(self, features: Tensor, factors: Factors, unit_norm: bool) -> Scan:
        """``Uᵀψ_q``, and what ``ψ_q`` has beyond the task's directions U."""
        return MixedScan(self.mix, self.mix.placed(features, factors), unit_norm)
