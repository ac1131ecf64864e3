"""The task-specific mix R' = λ R_eval + (1 − λ) R_train at query time, exact and without a new index.

In coordinates whitened by R_train, ψ = W φ, the mix is ``(1 − λ) I + λ E'`` with
``E' = mean ψ_q ψ_qᵀ`` over the task's queries: the identity but for a few directions (DESIGN, "What
makes it interactive").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from proponent.index.code_products import CodeProducts
from proponent.index.components import SPANNED, Components, smaller_gram
from proponent.index.hessian import split_blocks
from proponent.index.search import Piece, normalised
from proponent.products import product
from proponent.threads import side_by_side

MAX_AUTO_MIX = 0.999
PAPER_RANK, PAPER_DIM = 1000, 2**16
# Below this share of ‖ψ‖² a difference of float32 sums has lost too many digits.
CANCELS = 0.05
# A share of ‖ψ_q‖² under R'⁻¹ that no score shows: its root, 1e-7, is the most that a cosine can change.
NEGLIGIBLE = 1e-14
# Passages that meet the directions at a time: one block of them should stay in the caches once decoded.
TOGETHER = 512


@dataclass(frozen=True)
class Placed:
    """Queries ψ by a task's directions U: ``Uᵀψ`` [q, r], all blocks side by side, and ``ψ − UUᵀψ`` [q, d].

    Both float64.  beyond: [q, 0] where no query has anything there.
    """

    along: Tensor
    beyond: Tensor

    @classmethod
    def of(cls, whitened: Tensor, directions: tuple[Tensor, ...]) -> Placed:
        """Split whitened queries ψ [q, d], float64."""
        parts = list(zip(split_blocks(whitened, len(directions)), directions, strict=True))
        along = [part @ u for part, u in parts]
        beyond = [part - inside @ u.T for (part, u), inside in zip(parts, along, strict=True)]
        return cls(torch.cat(along, 1), torch.cat(beyond, 1))


@dataclass(frozen=True)
class TaskMix:
    """A task's directions in whitened coordinates, and how much they weigh.

    mix: λ in [0, 1).  directions: eigenvectors U [w, r_b] of each block of E', r_b <= min(queries, w), in
    float64: a task's own queries lie in their span, and what rounding leaves beyond it is divided by
    1 − λ.  strengths: their eigenvalues σ > 0 [r], float64, all blocks side by side, r = Σ r_b.
    task: features φ [n, d] of the task's queries.  components: theirs, by block.  own: where those queries
    stand to the task.
    """

    mix: float
    directions: tuple[Tensor, ...]
    strengths: Tensor
    task: Tensor
    components: tuple[Components, ...]
    own: Placed

    @classmethod
    def of(cls, features: Tensor, factors: tuple[Tensor, ...], mix: float) -> TaskMix:
        """The mix for features [n, d] of a task's queries, n >= 1, and the factors L of R_train."""
        # much of it is what threads do not share: eigenvectors of small matrices, and copies
        with side_by_side(min(torch.get_num_threads(), len(factors))) as pool:
            components = tuple(pool.map(Components.of, split_blocks(features, len(factors)), factors))
            directions, sigma, along = zip(*pool.map(Components.directions, components), strict=True)
        own = Placed(torch.cat(along, 1), torch.empty(len(features), 0, dtype=torch.float64))
        made = cls(mix, directions, torch.cat(sigma), features, components, own)
        kept = (len(found) == len(block.strengths) for found, block in zip(sigma, components, strict=True))
        if all(kept) and all(block.complete() for block in components):
            return made
        psi = made.whiten(features, factors)
        measured = Placed.of(psi, directions)
        least = psi.square().sum(1) / (1 + max(made.strengths.tolist(), default=0.0))
        # what is negligible is rounding, and as large as the directions: it is not kept
        negligible = (measured.beyond.square().sum(1) <= NEGLIGIBLE * (1 - mix) * least).all()
        return made if negligible else replace(made, own=measured)

    def placed(self, features: Tensor, factors: tuple[Tensor, ...]) -> Placed:
        """Where queries of features φ [q, d] stand to the task; factors: L of R_train, by block."""
        if torch.equal(features, self.task):
            return self.own
        return Placed.of(self.whiten(features, factors), self.directions)

    def whiten(self, features: Tensor, factors: tuple[Tensor, ...]) -> Tensor:
        """ψ [q, d] float64 of queries φ [q, d]: what the task spans lies in the span of its directions."""
        parts = split_blocks(features, len(factors))
        blocks = zip(self.components, parts, factors, strict=True)
        return torch.cat([block.whiten(part, factor) for block, part, factor in blocks], 1)

    def along(self, whitened: Tensor) -> Tensor:
        """``Uᵀ ψ`` [r, n] of passages ψ [n, d], float16 or float32: all that scores and norms need."""
        along = torch.empty(len(self.strengths), len(whitened))
        decoded = torch.empty(len(whitened), self._u[0].shape[1])
        parts = zip(split_blocks(whitened, len(self._u)), self._u, self._by_block(along), strict=True)
        for part, u, coordinates in parts:
            coordinates.copy_(product(u, decoded.copy_(part)))
        return along

    def squared_norms(self, whitened: Tensor, squared: Tensor, along: Tensor) -> Tensor:
        """``ψᵀ R'⁻¹ ψ`` [n] of passages ψ [n, d] whose ``‖ψ‖²`` [n] and ``Uᵀ ψ`` [r, n] are known.

        ``(‖ψ‖² − Σ w (u·ψ)²) / (1 − λ)`` with ``w = λσ / (1 − λ + λσ)``, the share of each direction
        that the mix takes away.  Where next to nothing is left, float32 cannot tell how much: those rows
        are computed without the difference.
        """
        pull = self.mix * self.strengths
        left = squared.double() - (pull / (1 - self.mix + pull)) @ along.double().square_()
        near = left < CANCELS * squared
        if near.any():
            left[near] = self._left(whitened[near].float(), along[:, near])
        return (left / (1 - self.mix)).float()

    def _left(self, whitened: Tensor, along: Tensor) -> Tensor:
        """``(1 − λ) ψᵀ R'⁻¹ ψ`` [n] as a sum of positive terms: along the directions, and beyond them."""
        inside = ((1 - self.mix) / (1 - self.mix + self.mix * self.strengths)) @ along.double().square_()
        return inside + self.beyond(whitened, along)

    def beyond(self, whitened: Tensor, along: Tensor) -> Tensor:
        """``‖ψ − UUᵀψ‖²`` [n] of passages ψ [n, d] whose ``Uᵀψ`` [r, n] is known, no difference of norms."""
        squared = torch.zeros(len(whitened), dtype=torch.float64)
        parts = zip(split_blocks(whitened, len(self._u)), self._u, self._by_block(along), strict=True)
        for part, u, coordinates in parts:
            squared += (part - coordinates.T @ u).double().square().sum(1)
        return squared

    def _by_block(self, along: Tensor) -> tuple[Tensor, ...]:
        """Views [r_b, n] of ``Uᵀψ`` [r, n]."""
        views: tuple[Tensor, ...] = along.split([u.shape[1] for u in self.directions])
        return views

    @cached_property
    def _u(self) -> tuple[Tensor, ...]:
        """Directions Uᵀ [r_b, w] in float32, for the many passages."""
        return tuple(u.T.float().contiguous() for u in self.directions)


class MixedScan:
    """Queries as a scan under a task mix sees them: ``ψ_qᵀ R'⁻¹ ψ_m``, by way of the task's directions.

    The passages meet the directions once, and scores and norms both come of that: a task's own queries lie
    in their span, so a scan costs hardly more than one without a mix.  What a query has beyond the span is
    divided by 1 − λ and meets the passages by itself.

    queries: where they stand to the task of the mix.
    """

    def __init__(self, mix: TaskMix, queries: Placed, unit_norm: bool) -> None:
        self._mix, self._unit_norm = mix, unit_norm
        inside = queries.along / (1 - mix.mix + mix.mix * mix.strengths)
        squared = (inside * queries.along).sum(1)
        apart = queries.beyond.square().sum(1) / (1 - mix.mix)
        squared += apart
        self._far = (apart > NEGLIGIBLE * squared).nonzero()[:, 0]
        self._rest = CodeProducts((queries.beyond[self._far] / (1 - mix.mix)).float())
        self._inside = inside.float()
        self._norms = squared.clamp_min(0).sqrt().float()

    def __len__(self) -> int:
        return len(self._norms)

    def scores(self, piece: Piece) -> Tensor:
        """Scores [q, c] of the passages of a piece; 0 where a norm is 0."""
        return torch.cat([self._scores(part) for part in piece.parts(TOGETHER)], 1)

    def _scores(self, piece: Piece) -> Tensor:
        along = self._mix.along(piece.codes)
        raw = product(self._inside, along.T)
        if len(self._far):
            raw[self._far] += self._rest.of(piece.codes)
        if not self._unit_norm:
            return raw * piece.scale
        # of the rows as they are coded: their scale falls out of a cosine
        norms = self._mix.squared_norms(
            piece.codes, (piece.whitened_norm / piece.scale).square(), along
        ).sqrt()
        return normalised(raw, self._norms, norms)


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
        sigma = torch.linalg.eigvalsh(smaller_gram(part.double() / len(part) ** 0.5))
        pooled.append(sigma[sigma > sigma[-1] * SPANNED])
    return torch.cat(pooled)
