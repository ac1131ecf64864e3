"""The closed set: facts whose gold passages are annotated in the run's own corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from proponent.attribute.attribution import Attribution
from proponent.corpus.facts import Fact
from proponent.corpus.queries import Queries
from proponent.errors import InputError
from proponent.evaluate.evaluation import Judged, evaluate
from proponent.evaluate.experiments.facts_study import FactsStudy
from proponent.evaluate.experiments.study import every_other
from proponent.evaluate.gold import Gold
from proponent.evaluate.metrics import Estimate, estimate
from proponent.evaluate.text import points


class Scores(NamedTuple):
    """What most tables say of a method: retrieval over the facts reported on, tail-patch of the top 10."""

    mrr: Estimate
    recall: Estimate
    patch: Estimate

    @property
    def cells(self) -> tuple[str, str, str]:
        """As a table has them."""
        return str(self.mrr), str(self.recall), points(self.patch)


@dataclass
class ClosedSet(FactsStudy):
    """The facts that have a gold passage in the run; settings are chosen on half of their relations."""

    name = ""

    @property
    def patchable(self) -> list[str]:
        """Ids of the facts that are reported on."""
        return self.ids(reported=True)

    @cached_property
    def gold(self) -> Gold:
        """Gold passages of the facts."""
        return Gold.read(self.given.facts_file)

    @property
    def facts(self) -> Mapping[str, Fact]:
        """The facts by id."""
        return self.gold.facts

    @cached_property
    def queries(self) -> Queries:
        """Facts with a gold passage in the run; InputError where there is none."""
        here, facts = {passage.source for passage in self.index.rows()}, self.given.facts_file
        asked = Queries.read(facts)
        kept = [q.id for q in asked if self.gold.passages.get(q.id, frozenset()) & here]
        if not kept:
            raise InputError(f"{facts}: no fact has a gold passage in {self.run}; are these its facts?")
        return asked.subset(kept)

    @cached_property
    def chosen_on(self) -> frozenset[str]:
        """Relations that settings may be chosen on: every other one, in an order fixed by hashing."""
        return frozenset(every_other(self.group(q.id) for q in self.queries))

    def ids(self, reported: bool) -> list[str]:
        """Ids of the queries of the relations to report on, or of those to choose settings on."""
        return [q.id for q in self.queries if (self.group(q.id) not in self.chosen_on) == reported]

    def relations(self, ids: Sequence[str]) -> int:
        """Number of relations of these queries."""
        return len(set(map(self.group, ids)))

    def judged(self, name: str, hits: Attribution) -> Judged:
        """Retrieval metrics of hits."""
        return evaluate(hits, self.gold, name)

    def scores(self, methods: Mapping[str, Attribution]) -> dict[str, Scores]:
        """Retrieval over the facts that are reported on and tail-patch of each method."""
        effects, reported, found = self.patched(methods), self.ids(reported=True), {}
        for name, hits in methods.items():
            of = self.judged(name, hits).estimates(reported)
            found[name] = Scores(of["MRR"], of["Recall@10"], estimate(list(effects[name].values())))
        return found
