"""Scores of one query under any Hessian and any λ from what one scan of the index leaves in memory.

The task mix R' has the eigenvalue ``1 − λ + λσ`` along each direction u of the task and ``1 − λ`` beyond
them, so with ``Uᵀψ`` of the passages at hand another λ is two products with a vector: no model, no index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from proponent.index.code_products import CodeProducts
from proponent.index.hessian import correlate, whiten
from proponent.index.mix import CANCELS, NEGLIGIBLE, Placed, TaskMix
from proponent.index.search import Found, Piece, TopRows, normalised

ROWS = 512  # decoded, or squared, at a time


@dataclass(frozen=True)
class Ground:
    """What rankings need of all n passages of an index, whatever the query.

    feature_norms, whitened_norms: ‖φ‖ and ‖ψ‖ [n].  task: whose directions U are meant, None for none.
    along: Uᵀψ [r, n], all blocks below one another.  beyond: ‖ψ − UUᵀψ‖² [n].
    """

    feature_norms: Tensor
    whitened_norms: Tensor
    task: TaskMix | None
    along: Tensor
    beyond: Tensor

    @classmethod
    def of(cls, pieces: Iterable[Piece], task: TaskMix | None) -> Ground:
        """One scan of an index; with a task it costs a product with each of its directions."""
        norms: list[tuple[Tensor, Tensor]] = []
        along, beyond = [], []
        for piece in _parts(pieces):
            norms.append((piece.feature_norm, piece.whitened_norm))
            if task is not None:
                coordinates = task.along(piece.codes) * piece.scale
                along.append(coordinates)
                beyond.append(_beyond(task, piece, coordinates))
        feature_norms, whitened_norms = (torch.cat(column) for column in zip(*norms, strict=True))
        if task is None:
            return cls(feature_norms, whitened_norms, None, torch.empty(0, 0), torch.empty(0))
        return cls(feature_norms, whitened_norms, task, torch.cat(along, 1), torch.cat(beyond))

    def __len__(self) -> int:
        return len(self.feature_norms)


@dataclass(frozen=True)
class Met:
    """One query's inner products with all passages, and its own norms.

    plain: φ_q·φ_m [n].  whitened: ψ_q·ψ_m [n].  apart: ψ_q·ψ_m [n] of what ψ_q has beyond the task's
    directions, along: Uᵀψ_q [r], apart_squared: ‖ψ_q − UUᵀψ_q‖²; all three empty without a task.
    feature_norm, whitened_norm: ‖φ_q‖ and ‖ψ_q‖.
    """

    plain: Tensor
    whitened: Tensor
    apart: Tensor
    along: Tensor
    apart_squared: float
    feature_norm: float
    whitened_norm: float

    @classmethod
    def of(
        cls,
        pieces: Iterable[Piece],
        features: Tensor,
        factors: tuple[Tensor, ...],
        task: TaskMix | None,
    ) -> Met:
        """One scan of an index for a query's features φ [1, d]; factors: L of R_train, by block."""
        psi = whiten(features.double(), factors) if task is None else task.whiten(features, factors)
        vectors = [correlate(features, factors), psi.float()]
        along, rest = torch.empty(0), torch.empty(0, 0)
        if task is not None:
            placed = Placed.of(psi, task.directions)
            along, rest = placed.along[0], placed.beyond
            vectors.append(rest.float())
        products = CodeProducts(torch.cat(vectors))
        raw = torch.cat([products.of(piece.codes) * piece.scale for piece in pieces], 1)
        return cls(
            raw[0],
            raw[1],
            raw[2] if task is not None else torch.empty(0),
            along,
            float(rest.square().sum()),
            float(features.norm()),
            float(psi.norm()),
        )


def rescored(ground: Ground, met: Met, hessian: str, mix: float, unit_norm: bool) -> Tensor:
    """Scores [n] of all passages; 0 where a norm is 0.

    hessian: ``none``, ``train`` or ``mixed``, the last with λ = mix in [0, 1) and a task.
    """
    if hessian == "mixed":
        raw, query, passages = _mixed(ground, met, mix)
    elif hessian == "train":
        raw, query, passages = met.whitened, met.whitened_norm, ground.whitened_norms
    else:
        raw, query, passages = met.plain, met.feature_norm, ground.feature_norms
    return normalised(raw[None], torch.tensor([query]), passages)[0] if unit_norm else raw


def _mixed(ground: Ground, met: Met, mix: float) -> tuple[Tensor, float, Tensor]:
    """Inner products [n] under R', the query's norm and the passages' [n]: sums of positive terms."""
    assert ground.task is not None
    shrink = 1 / (1 - mix + mix * ground.task.strengths)  # [r]
    inside = float(met.along.square() @ shrink)
    apart = met.apart_squared / (1 - mix)
    raw = (met.along * shrink).float() @ ground.along
    if apart > NEGLIGIBLE * (inside + apart):
        raw = raw + met.apart / (1 - mix)
    weights = shrink.float()
    squared = torch.cat([weights @ part.square() for part in ground.along.split(ROWS, dim=1)])
    return raw, (inside + apart) ** 0.5, (squared + ground.beyond / (1 - mix)).sqrt()


def best(scores: Tensor, k: int) -> Found:
    """The k highest and the k lowest of scores [n], as ``search`` finds them."""
    top, bottom = TopRows(1, k), TopRows(1, k)
    positions = torch.arange(len(scores))
    top.add(scores[None], positions)
    bottom.add(-scores[None], positions)
    return Found(top.scores, top.positions, -bottom.scores, bottom.positions)


def _beyond(task: TaskMix, piece: Piece, along: Tensor) -> Tensor:
    """‖ψ − UUᵀψ‖² [n]: from the stored norms, or where that leaves too few digits without a difference."""
    squared = piece.whitened_norm.double().square()
    left = squared - along.double().square().sum(0)
    near = left < CANCELS * squared
    if near.any():
        left[near] = task.beyond(piece.whitened[near], along[:, near])
    return left.float()


def _parts(pieces: Iterable[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        yield from piece.parts(ROWS)
