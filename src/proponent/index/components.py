"""A task's queries by their principal components: whitened so, they keep exactly what they have in common."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from proponent.index.hessian import whiten

# Eigenvalues of the queries' own features below this share of the largest are rounding.
FOUND = 1e-13
# What is left of a query beside the components, as a share of the whole, when nothing but rounding is.
ROUNDING = 1e-13
# Whitened queries span the directions whose eigenvalues are above this share of the largest.
SPANNED = 1e-10
# Rows of a Gram matrix that are made at a time, each strip as far as the diagonal.
STRIP = 64


@dataclass(frozen=True)
class Components:
    """One block of a task's features: ``Φ = √n Y P`` with orthogonal components ``P = YᵀΦ / √n`` [r, w].

    Whitening each query by itself would need float64: rounding breaks the linear relations between queries,
    and a task mix divides what it leaves by 1 − λ.  Components are whitened in float32 instead, and queries
    put together of those in float64: relations hold as in Φ, and each component is good to float32.

    features: Φ [n, w] float32.  shares: Y [n, r] float64, columns orthonormal but for the rounding of a Gram
    matrix.  strengths: the components' squared norms σ > 0 [r], float64.
    whitened: ``A = P L⁻ᵀ`` [r, w] float32.
    """

    features: Tensor
    shares: Tensor
    strengths: Tensor
    whitened: Tensor

    @classmethod
    def of(cls, features: Tensor, factor: Tensor) -> Components:
        """Components of features [n, w], n >= 1, whitened by the factor L [w, w] of R_train."""
        scaled = features.double() / len(features) ** 0.5
        sigma, vectors = _spectrum(smaller_gram(scaled), FOUND)
        shares = vectors if len(scaled) < scaled.shape[1] else scaled @ vectors / sigma.sqrt()
        shares[~features.any(1)] = 0  # a query of zeros has no share, not one of rounding
        components = shares.T @ scaled  # in just this way: of weak ones another would differ by a thousandth
        return cls(features, shares, sigma, whiten(components.float(), (factor,)))

    def directions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvectors u [w, r'] and eigenvalues [r'] of ``E' = ΨᵀΨ / n = AᵀA``, and ``Ψu`` [n, r'].

        Float64, r' <= r: those that whitened queries span.
        """
        psi = self.whitened.double()
        sigma, z = _spectrum(_gram(psi), SPANNED)
        along = self.shares @ (z * (len(self.features) * sigma).sqrt())
        return ((z / sigma.sqrt()).T @ psi).T, sigma, along

    def complete(self) -> bool:
        """Whether nothing but rounding of the task's own queries lies beside the components."""
        if len(self.strengths) == min(self.features.shape):
            return True
        phi = self.features.double()
        return not _apart(phi - self.shares @ (self.shares.T @ phi), phi).any()

    def whiten(self, features: Tensor, factor: Tensor) -> Tensor:
        """ψ [q, w] float64 of queries φ [q, w]: what lies in the task's components by those, and the rest.

        factor: the same L.
        """
        phi, task, count = features.double(), self.features.double(), len(self.features) ** 0.5
        weights = phi @ task.T @ self.shares / (count * self.strengths)
        rest = phi - weights @ self.shares.T @ task / count
        psi: Tensor = weights @ self.whitened.double()
        apart = _apart(rest, phi)
        if apart.any():
            psi[apart] += whiten(rest[apart].float(), (factor,))
        return psi


def smaller_gram(rows: Tensor) -> Tensor:
    """``ΦΦᵀ`` [n, n] of rows Φ [n, w] if n < w, else ``ΦᵀΦ`` [w, w]: of the same positive eigenvalues.

    Only its lower triangle, which is all that eigenvalues are taken of.
    """
    return _gram(rows if len(rows) < rows.shape[1] else rows.T)


def _gram(rows: Tensor) -> Tensor:
    """The lower triangle of ``ΦΦᵀ`` [n, n]."""
    gram = rows.new_zeros(len(rows), len(rows))
    for start in range(0, len(rows), STRIP):
        stop = start + STRIP
        gram[start:stop, :stop] = rows[start:stop] @ rows[:stop].T
    return gram


def _apart(rest: Tensor, whole: Tensor) -> Tensor:
    """Which rows [n] of a rest [n, w] are more of the whole than rounding leaves, or no numbers."""
    rounding: Tensor = rest.norm(dim=1) <= ROUNDING * whole.norm(dim=1)
    return ~rounding


def _spectrum(gram: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Eigenvalues [r], ascending, and eigenvectors [m, r] of a Gram matrix [m, m], by its lower triangle.

    Only positive ones above a share of the largest.
    """
    sigma, vectors = torch.linalg.eigh(gram)
    below = int((~(sigma > share * sigma[-1:].clamp_min(0))).sum())
    return sigma[below:], vectors[:, below:]
