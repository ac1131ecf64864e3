"""The task-specific mix R' = λ R_eval + (1 − λ) R_train at query time, exact and without a new index.

In coordinates whitened by R_train, ψ = W φ, the mix is ``(1 − λ) I + λ E'`` with
``E' = mean ψ_q ψ_qᵀ`` over the task's queries: the identity but for a few directions (DESIGN, "What
makes it interactive").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from proponent.index.hessian import split_blocks, whiten

MAX_AUTO_MIX = 0.999
PAPER_RANK, PAPER_DIM = 1000, 2**16
# Below this share of ‖ψ‖² a difference of float32 sums has lost too many digits.
CANCELS = 0.05


@dataclass(frozen=True)
class TaskMix:
    """A task's directions in whitened coordinates, and how much they weigh.

    mix: λ in [0, 1).  directions: eigenvectors U [w, r] of each block of E', r <= min(queries, w), in
    float64: a task's own queries lie in their span, and what rounding leaves beyond it is divided by
    1 − λ.  strengths: their eigenvalues σ [r] > 0, float64.
    """

    mix: float
    directions: tuple[Tensor, ...]
    strengths: tuple[Tensor, ...]

    @classmethod
    def of(cls, features: Tensor, factors: tuple[Tensor, ...], mix: float) -> TaskMix:
        """The mix for features [n, d] of a task's queries, n >= 1, and the factors L of R_train."""
        whitened = whiten(features.double(), factors)
        pairs = [_eigenpairs(part) for part in split_blocks(whitened, len(factors))]
        return cls(mix, tuple(u for u, _ in pairs), tuple(sigma for _, sigma in pairs))

    def solve(self, whitened: Tensor) -> Tensor:
        """``R'⁻¹ ψ`` [n, d] float64 of queries ψ [n, d], which ought to be float64 too.

        What rounding leaves of a query beyond the task's directions is divided by 1 − λ.
        """
        parts = []
        for part, u, sigma in self._blocks(whitened):
            psi = part.double()
            along = psi @ u  # [n, r]
            beyond = (psi - along @ u.T) / (1 - self.mix)
            parts.append((along / (1 - self.mix + self.mix * sigma)) @ u.T + beyond)
        return torch.cat(parts, 1)

    def squared_norms(self, whitened: Tensor, squared: Tensor) -> Tensor:
        """``ψᵀ R'⁻¹ ψ`` [n] of passages ψ [n, d] whose ``‖ψ‖²`` [n] is known.

        ``(‖ψ‖² − Σ w (u·ψ)²) / (1 − λ)`` with ``w = λσ / (1 − λ + λσ)``, the share of each direction
        that the mix takes away.  Where next to nothing is left, float32 cannot tell how much: those rows
        are computed without the difference.
        """
        removed = torch.zeros(len(whitened), dtype=torch.float64)
        for part, u, sigma in self._float32_blocks(whitened):
            pull = self.mix * sigma
            removed += (part @ u).double().square() @ (pull / (1 - self.mix + pull))
        left = squared.double() - removed
        near = left < CANCELS * squared
        if near.any():
            left[near] = self._left(whitened[near])
        return (left / (1 - self.mix)).float()

    def _left(self, whitened: Tensor) -> Tensor:
        """``(1 − λ) ψᵀ R'⁻¹ ψ`` [n] as a sum of positive terms: along the directions, and beyond them."""
        left = torch.zeros(len(whitened), dtype=torch.float64)
        for part, u, sigma in self._float32_blocks(whitened):
            along = part @ u  # [n, r]
            left += (part - along @ u.T).double().square().sum(1)
            left += along.double().square() @ ((1 - self.mix) / (1 - self.mix + self.mix * sigma))
        return left

    def _blocks(self, whitened: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        parts = split_blocks(whitened, len(self.directions))
        return zip(parts, self.directions, self.strengths, strict=True)

    def _float32_blocks(self, whitened: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The same with directions in float32, for the many passages."""
        parts = split_blocks(whitened, len(self.directions))
        return zip(parts, self._float32_directions, self.strengths, strict=True)

    @cached_property
    def _float32_directions(self) -> tuple[Tensor, ...]:
        return tuple(u.float() for u in self.directions)


def _eigenpairs(whitened: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors [w, r] and eigenvalues [r] of ``E' = ΨᵀΨ / n`` of one block, Ψ [n, w].

    Through the smaller of the Gram matrix [n, n] and E' itself.
    """
    psi = whitened.double() / len(whitened) ** 0.5
    if len(psi) < psi.shape[1]:
        sigma, y = torch.linalg.eigh(psi @ psi.T)
        keep = sigma > sigma[-1] * 1e-10
        u = psi.T @ (y[:, keep] / sigma[keep].sqrt())
    else:
        sigma, vectors = torch.linalg.eigh(psi.T @ psi)
        keep = sigma > sigma[-1] * 1e-10
        u = vectors[:, keep]
    return u, sigma[keep]


def automatic_mix(train: Tensor, task: Tensor) -> float:
    """λ at which the sorted eigenvalues of λR_eval and (1 − λ)R_train cross at rank k (DESIGN 1.6).

    train: eigenvalues of the damped R_train, pooled over blocks, [d].  task: positive eigenvalues of
    R_eval, pooled.  k is 1000 of 65,536, in proportion for another d, but at most half the number of
    directions that the queries span, so that few queries cannot drive λ to 1; and λ <= 0.999.
    """
    k = max(1, min(crossing_rank(len(train)), len(task) // 2))
    sigma_train = float(train.sort(descending=True).values[k - 1])
    sigma_task = float(task.sort(descending=True).values[k - 1])
    return min(MAX_AUTO_MIX, sigma_train / (sigma_task + sigma_train))


def crossing_rank(dim: int) -> int:
    """The rank k at which an automatic mix lets the eigenvalues cross: the paper's, in proportion."""
    return max(1, round(PAPER_RANK * dim / PAPER_DIM))


def task_eigenvalues(features: Tensor, blocks: int) -> Tensor:
    """Positive eigenvalues of R_eval = mean φ_q φ_qᵀ, pooled over blocks, for features [n, d]."""
    pooled = []
    for part in split_blocks(features, blocks):
        phi = part.double() / len(part) ** 0.5
        sigma = torch.linalg.eigvalsh(phi @ phi.T if len(phi) < phi.shape[1] else phi.T @ phi)
        pooled.append(sigma[sigma > sigma[-1] * 1e-10])
    return torch.cat(pooled)
