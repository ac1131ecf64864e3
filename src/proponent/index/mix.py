"""The task mix R' = λ R_eval + (1 − λ) R_train at query time, exact and without a new index.

In coordinates whitened by R_train, ψ = W φ, the mix is ``(1 − λ) I + λ E'`` with ``E' = mean ψ_q ψ_qᵀ`` over
the task's queries: the identity but for a few directions (DESIGN, "What makes it interactive").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from proponent.index.codec import Rows
from proponent.index.hessian import split_blocks
from proponent.index.whitening import Whitening
from proponent.threads import side_by_side

MAX_AUTO_MIX = 0.999
# Where R_train is taken for the identity it has no spectrum to cross: the paper's λ for T-REx.
WHITE_MIX = 0.9
PAPER_RANK, PAPER_DIM = 1000, 2**16
# Share of a Gram matrix's largest eigenvalue above which eigenvectors are good to 1e-8, and share of all its
# eigenvalues that is rounding of whitened queries.
SPANNED, ROUNDING = 1e-8, 1e-25
WHOLLY_INSIDE = 1e-11  # share of ‖ψ‖ beyond the subspace that is rounding
# Below this share of ‖ψ‖² a difference of float32 sums has lost too many digits.
CANCELS = 0.05
COUNTED = 1e-10  # share of R_eval's largest eigenvalue in a block above which one is more than rounding
STRIP = 64  # rows of a Gram matrix that are made at a time, each strip as far as the diagonal


@dataclass(frozen=True)
class TaskSubspace:
    """What the queries of a task span in whitened coordinates.

    directions: orthonormal eigenvectors U [w, r_b] of each block of E', r_b <= min(queries, w), float64.
    strengths: their eigenvalues σ > 0 [r], float64, all blocks side by side, r = Σ r_b.
    task: features φ [n, d] of the task's queries.  own: their ``split``, with no columns beyond the subspace
    where only rounding lies there.
    """

    directions: tuple[Tensor, ...]
    strengths: Tensor
    task: Tensor
    own: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, features: Tensor, whitening: Whitening) -> TaskSubspace:
        """The subspace of a task whose queries have features φ [n, d], n >= 1."""
        psi = whiten_precisely(features, whitening)
        parts = split_blocks(psi, len(whitening))
        directions, strengths = zip(*_each_block(_directions, parts), strict=True)
        if all(len(own) == min(part.shape) for own, part in zip(strengths, parts, strict=True)):
            along = torch.cat([part @ u for part, u in zip(parts, directions, strict=True)], 1)
            beyond = psi[:, :0]  # as many directions as there can be leave nothing
        else:
            along, beyond = _split(psi, directions)
            if bool((beyond.norm(dim=1) <= WHOLLY_INSIDE * psi.norm(dim=1)).all()):
                beyond = psi[:, :0]
        return cls(directions, torch.cat(strengths), features, (along, beyond.contiguous()))

    def split(self, whitened: Tensor) -> tuple[Tensor, Tensor]:
        """``Uᵀψ`` [q, r] and ``ψ − UUᵀψ`` [q, d] of whitened queries [q, d], all float64."""
        return _split(whitened, self.directions)

    def split_queries(self, features: Tensor, whitening: Whitening) -> tuple[Tensor, Tensor]:
        """``split`` of queries φ [q, d]; that of the task's own is known already."""
        same = torch.equal(features, self.task)
        return self.own if same else self.split(whiten_precisely(features, whitening))

    def for_passages(self) -> TaskSubspace:
        """The same without the task's own queries, which no passage is compared with."""
        none = torch.empty(0)
        return replace(self, task=none, own=(none, none))

    def join(self, along: Tensor) -> Tensor:
        """``Uc`` [q, d] of coordinates c [q, r] along the directions, float64."""
        parts = along.split([u.shape[1] for u in self.directions], 1)
        return torch.cat([part @ u.T for part, u in zip(parts, self.directions, strict=True)], 1)

    def along(self, rows: Rows) -> Tensor:
        """``Uᵀψ`` [r, n] of passages, float32."""
        width = rows.dim // len(self._u)
        return torch.cat([rows.column_products(u, b * width, (b + 1) * width) for b, u in enumerate(self._u)])

    def beyond(self, rows: Rows, along: Tensor) -> Tensor:
        """``‖ψ − UUᵀψ‖²`` [n] float32 of passages from norms and ``Uᵀψ`` [r, n], or exactly if small."""
        squared = rows.norms.double().square()
        left = squared - along.double().square().sum(0)
        near = left < CANCELS * squared
        if near.any():
            left[near] = self._outside(rows.at(near), along[:, near])
        return left.float()

    def _outside(self, psi: Tensor, along: Tensor) -> Tensor:
        squared = torch.zeros(len(psi), dtype=torch.float64)
        parts = (split_blocks(psi, len(self._u)), self._u, along.split([len(u) for u in self._u]))
        for part, u, coordinates in zip(*parts, strict=True):
            squared += (part - coordinates.T @ u).double().square().sum(1)
        return squared

    @cached_property
    def _u(self) -> tuple[Tensor, ...]:
        """Directions Uᵀ [r_b, w] in float32, for the many passages."""
        return tuple(u.T.float().contiguous() for u in self.directions)


@dataclass(frozen=True)
class TaskMix:
    """A task's subspace and its weight λ in [0, 1)."""

    subspace: TaskSubspace
    mix: float

    def shrink(self) -> Tensor:
        """``1 / (1 − λ + λσ)`` [r]: the eigenvalues of R'⁻¹ along the directions; beyond them 1 / (1 − λ)."""
        return 1 / (1 - self.mix + self.mix * self.subspace.strengths)

    def stretch(self) -> float:
        """``‖ψ‖`` under R'⁻¹ over ‖ψ‖ for a row spread evenly over all d coordinates: √(tr R'⁻¹ / d)."""
        dim = sum(map(len, self.subspace.directions))
        outside = (dim - len(self.subspace.strengths)) / (1 - self.mix)
        return math.sqrt((float(self.shrink().sum()) + outside) / dim)


def _split(whitened: Tensor, directions: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """``Uᵀψ`` [q, r] and ``ψ − UUᵀψ`` [q, d] of whitened queries [q, d], all float64."""
    parts = list(zip(split_blocks(whitened, len(directions)), directions, strict=True))
    along = [part @ u for part, u in parts]
    beyond = [part - inside @ u.T for (part, u), inside in zip(parts, along, strict=True)]
    return torch.cat(along, 1), torch.cat(beyond, 1)


def whiten_precisely(features: Tensor, whitening: Whitening) -> Tensor:
    """ψ [n, d] float64 of queries φ [n, d].

    Float32 would break the linear relations between a task's queries; a mix divides what is left by 1 − λ.
    """
    parts = zip(whitening.blocks, split_blocks(features, len(whitening)), strict=True)
    return torch.cat(_each_block(lambda pair: pair[0].whiten(pair[1].double()), list(parts)), 1)


def _each_block(function: Callable[[Any], Any], blocks: Sequence[Any]) -> list[Any]:
    """The function's value for every block, blocks side by side: threads share little of one block's work."""
    with side_by_side(min(torch.get_num_threads(), len(blocks))) as pool:
        return list(pool.map(function, blocks))


def _directions(psi: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors u [w, r] and eigenvalues [r] > 0 of ``ΨᵀΨ / n`` of queries Ψ [n, w], float64.

    A Gram matrix loses what is weak beside its strongest directions: that is looked for again in what these
    leave of the queries, down to rounding.
    """
    left = psi / len(psi) ** 0.5
    rounding, rank = ROUNDING * float(left.square().sum()), min(left.shape)
    vectors, strengths = left.new_empty(left.shape[1], 0), left.new_empty(0)
    while len(strengths) < rank and float(left.square().sum()) > rounding:
        u, sigma = _strongest(left, rounding)
        vectors, strengths = torch.cat([vectors, u], 1), torch.cat([strengths, sigma])
        if len(strengths) < rank:
            left = left - (left @ vectors) @ vectors.T
    return vectors, strengths


def _strongest(rows: Tensor, rounding: float) -> tuple[Tensor, Tensor]:
    """Eigenvectors [w, r] and eigenvalues [r] of ``ΨᵀΨ`` [w, w], those above ``SPANNED`` of the largest."""
    turned = len(rows) >= rows.shape[1]
    sigma, vectors = torch.linalg.eigh(gram(rows.T if turned else rows))
    found = sigma > max(SPANNED * float(sigma[-1]), rounding)
    sigma, vectors = sigma[found], vectors[:, found]
    return (vectors if turned else rows.T @ (vectors / sigma.sqrt())), sigma


def gram(rows: Tensor) -> Tensor:
    """The lower triangle of ``ΦΦᵀ`` [n, n] of rows Φ [n, w], which is all that eigenvalues are taken of."""
    made = rows.new_zeros(len(rows), len(rows))
    for start in range(0, len(rows), STRIP):
        stop = start + STRIP
        made[start:stop, :stop] = rows[start:stop] @ rows[:stop].T
    return made


def automatic_mix(train: Tensor, task: Tensor) -> float:
    """λ <= 0.999 at which the sorted eigenvalues of λR_eval and (1 − λ)R_train cross at rank k (DESIGN 1.6).

    train: eigenvalues of the damped R_train, pooled over blocks, [d].  task: positive eigenvalues of R_eval,
    pooled.  k is ``crossing_rank``, but at most half of the task's, so that few queries cannot drive λ to 1.
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
        rows = part.double() / len(part) ** 0.5
        sigma = torch.linalg.eigvalsh(gram(rows if len(rows) < rows.shape[1] else rows.T))
        pooled.append(sigma[sigma > COUNTED * sigma[-1]])
    return torch.cat(pooled)
