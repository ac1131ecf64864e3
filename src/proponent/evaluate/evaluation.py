"""Judging attributions against gold: MRR, Recall@10 and precision@10, overall, by group, in pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from proponent.attribute.attribution import Attribution, Hit
from proponent.errors import InputError
from proponent.evaluate.gold import Gold
from proponent.evaluate.metrics import (
    Estimate,
    Ranked,
    estimate,
    hits_within,
    paired_difference,
    precisions,
    reciprocal_ranks,
)
from proponent.evaluate.text import estimate_table

METRICS: dict[str, Callable[[Ranked], list[float]]] = {
    "MRR": reciprocal_ranks,
    "Recall@10": lambda correct: hits_within(correct, 10),
    "precision@10": lambda correct: precisions(correct, 10),
}


@dataclass(frozen=True)
class Judged:
    """One method's values for every query: metric name → query id → value, and the group of each query."""

    name: str
    values: Mapping[str, Mapping[str, float]]
    groups: Mapping[str, str]

    def estimates(self, queries: Sequence[str] | None = None) -> dict[str, Estimate]:
        """Each metric's mean over these queries (None: all) with its interval."""
        wanted = self.groups if queries is None else queries
        return {metric: estimate([by_id[q] for q in wanted]) for metric, by_id in self.values.items()}

    def by_group(self) -> Iterator[tuple[str, dict[str, Estimate]]]:
        """Estimates of each group, groups in order of their names."""
        for group in sorted(set(self.groups.values())):
            yield group, self.estimates([q for q, g in self.groups.items() if g == group])

    def __str__(self) -> str:
        return estimate_table(self.name, [("all", self.estimates()), *self.by_group()])

    def plain(self) -> dict[str, Any]:
        """The estimates as plain values for JSON: overall, then by group."""
        return {
            "name": self.name,
            "overall": _plain(self.estimates()),
            "groups": {group: _plain(estimates) for group, estimates in self.by_group()},
        }

    def minus(self, other: Judged) -> dict[str, Estimate]:
        """Paired differences of each metric over the queries that both have; InputError where none is."""
        shared = [q for q in self.groups if q in other.groups]
        if not shared:
            raise InputError(f"{self.name}: no query in common with {other.name}; compare the same queries")
        return {
            metric: paired_difference([mine[q] for q in shared], [other.values[metric][q] for q in shared])
            for metric, mine in self.values.items()
        }


def compared(judged: Sequence[Judged]) -> str:
    """A table of each, then what each gains on the first over the queries that both have."""
    first, *others = judged
    gains = (
        estimate_table(f"{other.name} minus {first.name}", [("paired", other.minus(first))])
        for other in others
    )
    return "\n\n".join([*map(str, judged), *gains])


def _plain(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {metric: asdict(found) for metric, found in estimates.items()}


def evaluate(
    hits: Attribution, gold: Gold, name: str | None = None, group: Callable[[Hit], str] | None = None
) -> Judged:
    """Judge hits against gold passages, for the queries that are facts with some; InputError for none.

    name: of the method or file, for tables and messages.  group: of a hit's query; None: its relation.
    """
    called = name or str(hits.settings.get("method", "hits"))
    known = gold.common(hits, called)
    correct = [gold.correct(hit) for hit in known]
    ids = [hit.query.id for hit in known]
    values = {metric: dict(zip(ids, of(correct), strict=True)) for metric, of in METRICS.items()}
    group_of = group or (lambda hit: gold.facts[hit.query.id].relation)
    return Judged(called, values, {hit.query.id: group_of(hit) for hit in known})
