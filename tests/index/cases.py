"""Features, whitenings and shards for tests, and scores under a task mix by its definition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from proponent.index.codec import Rows
from proponent.index.damping import Damping
from proponent.index.hessian import HessianBlock, HessianSum, split_blocks
from proponent.index.mix import TaskMix, TaskSubspace
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import Shard
from proponent.index.whitening import BlockWhitening, Whitening

BLOCKS, WIDTH = 3, 16
MIXES = [0.0, 0.1, 0.5, 0.9, 0.99, 0.999]


def hessian_of(features: Tensor) -> HessianBlock:
    """R of features [n, w] of one block."""
    total = HessianSum.empty(features.shape[1])
    total.add(features)
    return total.mean()


def whitening_of(features: Tensor, blocks: int, damping: float | str) -> Whitening:
    """The whitening by R of features [n, b * w]."""
    parts = split_blocks(features, blocks)
    return Whitening(tuple(BlockWhitening.of(hessian_of(part), damping) for part in parts))


def identity(blocks: int, width: int) -> Whitening:
    """The whitening that changes nothing."""
    return Whitening(
        (BlockWhitening(torch.eye(width), torch.ones(width), Damping(1.0, 1e-9)),) * blocks,
    )


def shard_of(psi: Tensor, feature_norms: Tensor | None = None, first: int = 0) -> Shard:
    """Whitened rows [n, d] as they are; feature_norms: those of ψ if not given."""
    return Shard(first, Rows.in_memory(psi), psi.norm(dim=1) if feature_norms is None else feature_norms)


def mixed_scan(
    queries: Tensor, whitening: Whitening, subspace: TaskSubspace, mix: float, unit_norm: bool = True
) -> QueryScan:
    """Queries φ [q, d] under a task mix."""
    inner = InnerProduct("mixed", unit_norm, TaskMix(subspace, mix))
    return QueryScan(QueryTerms(queries, whitening, subspace), inner)


def draw(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, BLOCKS * WIDTH, generator=torch.Generator().manual_seed(seed))


def template_task(queries: int, strength: float = 1.0, own: float = 0.3, seed: int = 1) -> Tensor:
    """Queries that share a direction (their template), each with something of its own."""
    return strength * (draw(1, seed) + own * draw(queries, seed + 1))


@dataclass(frozen=True)
class Case:
    """Passages, queries and the task's queries, as features [n, b * w]."""

    passages: Tensor
    queries: Tensor
    task: Tensor
    damping: float = 1.0

    def direct(self, mix: float, unit_norm: bool) -> Tensor:
        """Scores [q, n] by R'^{-1/2} of the mixed R, block by block, as the definition says."""
        transformed = []
        parts = (features.double().split(WIDTH, 1) for features in (self.passages, self.queries, self.task))
        for passages, queries, task in zip(*parts, strict=True):
            R_train = passages.T @ passages / len(passages)
            R_train += self.damping * R_train.diagonal().mean() * torch.eye(WIDTH, dtype=torch.float64)
            R_eval = task.T @ task / len(task)
            sigma, vectors = torch.linalg.eigh(mix * R_eval + (1 - mix) * R_train)
            root = (vectors / sigma.sqrt()) @ vectors.T
            transformed.append((queries @ root, passages @ root))
        G_queries, G_passages = (torch.cat(side, 1) for side in zip(*transformed, strict=True))
        if unit_norm:
            G_queries, G_passages = (G / G.norm(dim=1, keepdim=True) for G in (G_queries, G_passages))
        return G_queries @ G_passages.T

    def at_query_time(self, mix: float, unit_norm: bool) -> Tensor:
        """The same from the index that is whitened by R_train alone."""
        whitening = whitening_of(self.passages, BLOCKS, self.damping)
        scan = mixed_scan(self.queries, whitening, TaskSubspace.of(self.task, whitening), mix, unit_norm)
        return scan.scores(shard_of(whitening.whiten(self.passages), self.passages.norm(dim=1)))
