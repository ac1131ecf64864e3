"""Passages to choose a subset from: one scan gives them, and a bound for all others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from proponent.attribute.method import Method
from proponent.attribute.selection import LogDeterminant, Support
from proponent.attribute.tracing import SCAN_QUERIES, Tracer, scanned
from proponent.corpus.example import Query
from proponent.index.mix import TaskMix
from proponent.index.run import Index
from proponent.index.scores import InnerProduct
from proponent.index.search import search
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
    beyond: [q] >= 0; no passage that is not among them has a higher score for a query.
    influence_beyond: nor a larger sum of positive scores than this.
    """

    index: Index
    inner: InnerProduct
    asked: tuple[str, ...]
    positions: Tensor
    scores: Tensor
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
        """The ``each`` best passages of every query, together."""
        index, each = tracer.index, min(each, len(tracer.index))
        parts = [queries[start : start + SCAN_QUERIES] for start in range(0, len(queries), SCAN_QUERIES)]
        scans = [tracer.scan(tracer.features(part, method.output), method, task_mix) for part in parts]
        found = [search(scanned(index, progress, "searching"), scan, each) for scan in scans]
        positions = torch.cat([part.proponent_positions.flatten() for part in found]).unique()
        rows = [[scan.scores(shard) for scan in scans] for shard in index.only(positions)]
        scores = torch.cat([torch.cat(of_shard) for of_shard in rows], 1).double()
        least = torch.cat([part.proponent_scores[:, -1] for part in found]).double().clamp(min=0)
        beyond = least if each < len(index) else torch.zeros_like(least)
        inner, asked = method.inner_product(task_mix), tuple(query.id for query in queries)
        return cls(index, inner, asked, positions, scores, beyond, float(beyond.sum()))

    @property
    def influence(self) -> Tensor:
        """Sums [n] of each passage's positive scores."""
        return self.scores.clamp(min=0).sum(0)

    def most_influential(self, most: int) -> Candidates:
        """Those of most influence, so many at most."""
        order = self.influence.sort(descending=True, stable=True).indices
        kept, others = order[:most].sort().values, order[most:]
        if not len(others):
            return self
        beyond = torch.maximum(self.beyond, self.scores[:, others].max(1).values)
        influence = max(self.influence_beyond, float(self.influence[others[0]]))
        positions, scores = self.positions[kept], self.scores[:, kept]
        return replace(self, positions=positions, scores=scores, beyond=beyond, influence_beyond=influence)

    def sources(self) -> list[str]:
        """The passage of the corpus that each is a chunk of, [n]."""
        found = self.index.passages(self.positions.tolist())
        return [found[position].source for position in self.positions.tolist()]

    def support(self, decay: float) -> tuple[Support, Callable[[], float]]:
        """How a set supports the queries, and what a passage beyond these would add to it at most."""
        function = Support(self.scores, decay)
        return function, lambda: float(function.gains_of(self.beyond[:, None]))

    def log_determinant(self) -> tuple[LogDeterminant, Callable[[], float]]:
        """How much a set's features differ, each scaled by its influence; and the same bound."""
        most = float(self.influence.max()) or 1.0
        alike = similarities(self.index.only(self.positions), self.inner, self.index.whitening)
        scale = self.influence / most * CONTRAST**0.5
        beyond = torch.tensor(CONTRAST * (self.influence_beyond / most) ** 2).log1p()
        return LogDeterminant(scale[:, None] * alike * scale), lambda: float(beyond)
