"""Judging attributions against gold: retrieval metrics overall, by group, and paired differences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from proponent.attribute.attribution import Attribution, Hit
from proponent.errors import InputError
from proponent.evaluate.gold import Gold
from proponent.evaluate.metrics import (
    Estimate,
    average_precisions,
    estimate,
    hits_within,
    paired_difference,
    precisions,
    recalls,
    reciprocal_ranks,
)
from proponent.evaluate.splits import split_by
from proponent.evaluate.text import estimate_table

DEEP = 50  # of Recall@50, which only lists as long as this have


@dataclass(frozen=True)
class Judged:
    """One method's values for every query: metric name → query id → value, and the group of each query.

    notes: what a reader of the metrics must know of these lists, in words.
    """

    name: str
    values: Mapping[str, Mapping[str, float]]
    groups: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def estimates(self, queries: Sequence[str] | None = None) -> dict[str, Estimate]:
        """Each metric's mean over these queries (None: all) with its interval."""
        wanted = self.groups if queries is None else queries
        return {metric: estimate([by_id[q] for q in wanted]) for metric, by_id in self.values.items()}

    def by_group(self) -> Iterator[tuple[str, dict[str, Estimate]]]:
        """Estimates of each group, in order of the groups' names, or of the numbers that they begin with."""
        for group in sorted(set(self.groups.values()), key=_by_number):
            yield group, self.estimates([q for q, g in self.groups.items() if g == group])

    def __str__(self) -> str:
        groups = list(self.by_group())
        several = groups if len(groups) > 1 else []
        table = estimate_table(self.name, [("all", self.estimates()), *several])
        return "\n".join([table, *self.notes])

    def plain(self) -> dict[str, Any]:
        """The estimates as plain values for JSON: overall, then by group."""
        return {
            "name": self.name,
            "overall": _plain(self.estimates()),
            "groups": {group: _plain(estimates) for group, estimates in self.by_group()},
            "notes": list(self.notes),
        }

    def minus(self, other: Judged) -> dict[str, Estimate]:
        """Paired differences of the metrics and over the queries that both have; InputError where none is."""
        shared = [q for q in self.groups if q in other.groups]
        if not shared:
            raise InputError(f"{self.name}: no query in common with {other.name}; compare the same queries")
        return {
            metric: paired_difference([mine[q] for q in shared], [other.values[metric][q] for q in shared])
            for metric, mine in self.values.items()
            if metric in other.values
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


def _by_number(group: str) -> tuple[float, str]:
    """Order of groups: by the number at the start, those without one after them, by name."""
    number = re.match(r"-?[\d,]*\.?\d+(?:e[+-]?\d+)?", group)
    return (float(number[0].replace(",", "")) if number else float("inf"), group)


def evaluate(
    hits: Attribution, gold: Gold, name: str | None = None, group: Callable[[Hit], str] | str | None = None
) -> Judged:
    """Judge hits against gold passages, for the queries that have some; InputError for none.

    name: of the method or file, for tables and messages.  group: of a hit's query, or the name of a field
    of its result record or fact (see `split_by`); None: its relation, where there are facts.
    """
    called = name or str(hits.settings.get("method", "hits"))
    known = gold.common(hits, called)
    group_of = split_by(group, known, gold) if isinstance(group, str) else group or _relation(gold)
    values = {
        metric: dict(zip((hit.query.id for hit in known), each, strict=True))
        for metric, each in _metrics(known, gold).items()
    }
    return Judged(called, values, {hit.query.id: group_of(hit) for hit in known}, _notes(known, gold))


def _relation(gold: Gold) -> Callable[[Hit], str]:
    def relation(hit: Hit) -> str:
        return str(gold.fields_of(hit).get("relation", hit.query.fields.get("relation") or "no relation"))

    return relation


def _metrics(known: Sequence[Hit], gold: Gold) -> dict[str, list[float]]:
    """Each metric's value for each hit; no Recall@50 where a list is shorter than that."""
    correct, found = [gold.correct(hit) for hit in known], [gold.found(hit) for hit in known]
    sizes = [len(gold.of(hit)) for hit in known]
    metrics = {
        "MRR": reciprocal_ranks(correct),
        "Recall@10": hits_within(correct, 10),
        "precision@10": precisions(correct, 10),
        "AUPRC": average_precisions(found, sizes),
    }
    deep = {f"Recall@{DEEP}": recalls(found, sizes, DEEP)} if _shortest(known) >= DEEP else {}
    return metrics | deep


def _notes(known: Sequence[Hit], gold: Gold) -> tuple[str, ...]:
    """What the lists' lengths make of the metrics."""
    notes, shortest = [], _shortest(known)
    missed = sum(len(gold.of(hit)) - sum(gold.found(hit)) for hit in known)
    if missed:
        of = sum(len(gold.of(hit)) for hit in known)
        notes.append(f"AUPRC is a lower bound: {missed:,} of {of:,} gold passages are not in the lists")
    if shortest >= DEEP:
        notes.append(f"Recall@{DEEP} is the share of a query's gold passages, Recall@10 of queries with any")
    else:
        remedy = f"retrieve {DEEP} (-k {DEEP})"
        notes.append(f"Recall@{DEEP} is left out: the shortest list has {shortest} passages; {remedy}")
    return tuple(notes)


def _shortest(known: Sequence[Hit]) -> int:
    return min(len(hit.proponents) for hit in known)
