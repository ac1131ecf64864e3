"""Passages to choose a subset from: one scan gives them, and a bound for all others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from proponent.attribute.method import Method
from proponent.attribute.selection import LogDeterminant, Support
from proponent.attribute.sharded import Streamed
from proponent.attribute.tracing import SCAN_QUERIES, Tracer
from proponent.corpus.example import Query
from proponent.index.mix import TaskMix
from proponent.index.run import Index
from proponent.index.scores import InnerProduct
from proponent.index.search import Scan, Shard
from proponent.index.similarity import similarities
from proponent.progress import Progress

# Variance of the passage of most influence, beside the 1 of the determinant's identity.  A copy of it adds
# log 2 at most, as much as another passage with a tenth of its influence.
CONTRAST = 100.0


@dataclass(frozen=True)
class Candidates:
    """Passages of an index that may be chosen, with their scores for every query.

    inner: under which they are compared.  asked: ids of the queries.  positions: [n] in the index, ascending.
    scores: [q, n].
    others: how many passages the index has besides.  beyond: [q] >= 0; none of these has a higher score for a
    query.  influence_beyond: nor a larger sum of positive scores than this.
    """

    index: Index
    inner: InnerProduct
    asked: tuple[str, ...]
    positions: Tensor
    scores: Tensor
    others: int
    beyond: Tensor
    influence_beyond: float

    @classmethod
    def of(
        cls,
        tracer: Tracer,
        queries: Sequence[Query],
        method: Method,
        task_mix: TaskMix | None,
        each: int,
        progress: Progress,
    ) -> Candidates:
        """The ``each`` best passages of every query, together; one scan for each 1,024 queries."""
        index, each = tracer.index, min(each, len(tracer.index))
        parts = [queries[start : start + SCAN_QUERIES] for start in range(0, len(queries), SCAN_QUERIES)]
        scans = [tracer.scan(tracer.features(part, method.output), method, task_mix) for part in parts]
        summing = [_Summing(scan) for scan in scans]
        found = [Streamed(index).search(scan, each, progress) for scan in summing]
        positions = torch.cat([part.proponent_positions.flatten() for part in found]).unique()
        rows = [[scan.scores(shard) for scan in scans] for shard in index.only(positions)]
        scores = torch.cat([torch.cat(of_shard) for of_shard in rows], 1)
        least = torch.cat([part.proponent_scores[:, -1] for part in found]).clamp(min=0)
        influence = torch.stack([torch.cat(scan.sums) for scan in summing]).sum(0)
        influence[positions] = 0
        inner, asked = method.inner_product(task_mix), tuple(query.id for query in queries)
        others = len(index) - len(positions)
        return cls(index, inner, asked, positions, scores, others, least.double(), float(influence.max()))

    @property
    def influence(self) -> Tensor:
        """Sums [n] of each passage's positive scores."""
        return self.scores.clamp(min=0).sum(0, dtype=torch.float64)

    def most_influential(self, most: int) -> Candidates:
        """Those of most influence, so many at most."""
        order = self.influence.sort(descending=True, stable=True).indices
        kept, others = order[:most].sort().values, order[most:]
        if not len(others):
            return self
        return replace(
            self,
            positions=self.positions[kept],
            scores=self.scores[:, kept],
            others=self.others + len(others),
            beyond=torch.maximum(self.beyond, self.scores[:, others].max(1).values.double()),
            influence_beyond=max(self.influence_beyond, float(self.influence[others[0]])),
        )

    def sources(self) -> list[str]:
        """The passage of the corpus that each is a chunk of, [n]."""
        found = self.index.passages(self.positions.tolist())
        return [found[position].source for position in self.positions.tolist()]

    def support(self, decay: float) -> tuple[Support, Callable[[], float]]:
        """How a set supports the queries, and what a passage beyond these would add to it at most."""
        function = Support(self.scores, decay)
        # a passage adds no more than the sum of its positive scores
        return function, lambda: min(float(function.gains_of(self.beyond[:, None])), self.influence_beyond)

    def log_determinant(self) -> tuple[LogDeterminant, Callable[[], float]]:
        """How much a set's features differ, each scaled by its influence; and the same bound."""
        most = float(self.influence.max()) or 1.0
        alike = similarities(self.index.only(self.positions), self.inner, self.index.whitening)
        scale = self.influence / most * CONTRAST**0.5
        beyond = math.log1p(CONTRAST * (self.influence_beyond / most) ** 2)
        return LogDeterminant(scale[:, None] * alike * scale), lambda: beyond


class _Summing:
    """A scan that keeps the sum of every passage's positive scores as they go by."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self.sums: list[Tensor] = []  # [n] float64 of each shard

    def __len__(self) -> int:
        return len(self._scan)

    def scores(self, shard: Shard) -> Tensor:
        """Scores [q, n] of the passages of a shard."""
        found = self._scan.scores(shard)
        self.sums.append(found.clamp(min=0).sum(0, dtype=torch.float64))
        return found
