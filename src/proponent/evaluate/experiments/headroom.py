"""Headroom: what the proponents of right and of wrong answers are about (Figure 3, Table A.1)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from proponent.attribute.attribution import Attribution, ScoredPassage
from proponent.corpus.example import Query
from proponent.corpus.queries import Queries
from proponent.evaluate.correctness import Prediction, predictions
from proponent.evaluate.entailment import NliModel, Pair
from proponent.evaluate.experiments.facts_study import FactsStudy
from proponent.evaluate.experiments.figures import StackedBars
from proponent.evaluate.experiments.study import BM25, TRACKSTAR, spread
from proponent.evaluate.experiments.tables import Table, as_csv
from proponent.evaluate.gold import Triple, passage_triples
from proponent.evaluate.headroom import Category, Entities, categorise, statement_of
from proponent.evaluate.metrics import Estimate, estimate
from proponent.evaluate.text import percent
from proponent.files import checksum, written_whole

TOP = 10  # proponents of a query
EXAMPLES = 100
RIGHT, OWN, TRUTH = "right", "wrong, own answer", "wrong, truth"


class Found(NamedTuple):
    """A proponent with its category.  asked: whether the model is right, and what was traced."""

    method: str
    asked: str
    query: Query
    rank: int
    passage: ScoredPassage
    category: Category


@dataclass
class Headroom(FactsStudy):
    """All facts, and what the model says instead of those that it gets wrong."""

    name = "headroom"

    def made_with(self) -> dict[str, Any]:
        """The facts and how many passages are retrieved."""
        return {"facts": checksum(self.given.facts_file), "retrieved": TOP}

    @cached_property
    def said(self) -> dict[str, Prediction]:
        """What the model says to each query."""
        file = self.folder / "predictions.jsonl"
        return predictions(self.tracer.model, self.queries, file, self.given.progress, samples=0)

    @cached_property
    def answers(self) -> Queries:
        """The queries that the model gets wrong, with its own answer as the target, where it gives any."""
        return Queries(
            tuple(
                Query(query.id, query.prompt, answer, {"relation": self.group(query.id)}, query.place)
                for query in self.queries
                if not self.said[query.id].correct and (answer := self.said[query.id].answer)
            )
        )

    @cached_property
    def entities(self) -> Entities:
        """The entities of the facts."""
        return Entities(self.facts.values())

    @cached_property
    def triples(self) -> Mapping[str, frozenset[Triple]]:
        """Triples of the run's rows that are annotated, by row id."""
        found = passage_triples(self.facts.values(), self.given.sentences)
        return {row.id: found[row.source] for row in self.index.rows() if row.source in found}

    def asked(self, method: str, queries: Queries) -> Attribution:
        """What a method retrieves for queries; TrackStar's task is all the facts, whatever the targets."""
        k = min(TOP, len(self.index))
        if method == BM25:
            return self.retrieved("bm25", queries, k)
        return self.tracer.trace(queries, "trackstar", k, self.queries)

    def found(self) -> list[Found]:
        """Every proponent of every method with its category."""
        found: list[Found] = []
        for method in (TRACKSTAR, BM25):
            hits = self.hits(method, partial(self.asked, method, self.queries))
            found += self._categorised(method, hits, own=False)
            if self.answers:
                hits = self.hits(f"{method} own answers", partial(self.asked, method, self.answers))
                found += self._categorised(method, hits, own=True)
        return found

    def _categorised(self, method: str, hits: Attribution, own: bool) -> Iterator[Found]:
        entailed = self._entailed(hits)
        for hit in hits:
            fact, right = self.facts[hit.query.id], self.said[hit.query.id].correct
            statement = statement_of(fact, hit.query.target if own else None, self.entities)
            asked = RIGHT if right else OWN if own else TRUTH
            for rank, passage in enumerate(hit.proponents[:TOP], start=1):
                judged = (hit.query.id, passage.id) in entailed
                category = categorise(passage.text, self.triples.get(passage.id), statement, judged)
                yield Found(method, asked, hit.query, rank, passage, category)

    def _entailed(self, hits: Attribution) -> set[tuple[str, str]]:
        """(query id, passage id) of the passages without annotations that the model of entailment accepts."""
        if self.judge is None:
            return set()
        asked = {
            (hit.query.id, passage.id): Pair(passage.text, hit.query)
            for hit in hits
            for passage in hit.proponents[:TOP]
            if passage.id not in self.triples
        }
        found = self.verdicts(self.judge).of(list(asked.values()), self.given.progress)
        return {key for key, verdict in zip(asked, found, strict=True) if verdict.gold}

    @cached_property
    def judge(self) -> NliModel | None:
        """The model of entailment, if one was given."""
        return NliModel(self.given.nli, self.given.device) if self.given.nli else None


def headroom(study: Headroom) -> Table:
    """Shares of each category among the top proponents, of right facts and of wrong ones both ways."""
    found = study.found()
    _write(study.folder / "categories.csv", [_row(f) for f in found])
    drawn = spread(_different(found), lambda f: f.category, EXAMPLES, study.given.seed)
    random.Random(study.given.seed).shuffle(drawn)
    _write(study.folder / "examples.csv", [_example(study, f) for f in drawn])
    shares = {
        f"{asked}: {method}": of
        for asked in (RIGHT, OWN, TRUTH)
        for method in (TRACKSTAR, BM25)
        if (of := shares_of([f for f in found if (f.asked, f.method) == (asked, method)]))
    }
    here = [category for category in Category if any(of[category].mean for of in shares.values())]
    rows = tuple((str(c), *(percent(of[c]) for of in shares.values())) for c in here)
    title = "What the top proponents have of the fact"
    bars = {name: {str(c): 100 * of[c].mean for c in here} for name, of in shares.items()}
    figure = StackedBars(title, f"% of the top {TOP} proponents", bars)
    return Table(title, ("category", *shares), rows, _notes(study), {"figure": figure})


def shares_of(found: Sequence[Found]) -> dict[Category, Estimate]:
    """Share of each category among a query's proponents, over the queries; none of none."""
    by_query: dict[str, list[Category]] = {}
    for f in found:
        by_query.setdefault(f.query.id, []).append(f.category)
    if not by_query:
        return {}
    return {c: estimate([of.count(c) / len(of) for of in by_query.values()]) for c in Category}


def _notes(study: Headroom) -> tuple[str, ...]:
    right = sum(said.correct for said in study.said.values())
    others = (
        f"'{study.judge.name}' judges the others" if study.judge else "of the others only names are known"
    )
    known = sum(bool(study.entities.called(query.target).uris) for query in study.answers)
    return (
        f"Percent of the top {min(TOP, len(study.index))} proponents, 95% bootstrap intervals over queries.",
        f"The model's greedy answer is right for {right} of {len(study.queries)} facts. Of the others it "
        f"answers {len(study.answers)} with a word or a name, {known} of them one of an entity of the facts.",
        f"{len(study.triples):,} of {len(study.index):,} rows are annotated with triples; {others}.",
    )


def _different(found: Sequence[Found]) -> list[Found]:
    """The same without those that another method found as well."""
    return list({(f.query.id, f.asked, f.passage.id): f for f in reversed(found)}.values())


def _row(found: Found) -> dict[str, Any]:
    query, passage = found.query, found.passage
    return {
        "query": query.id,
        "model is": found.asked,
        "target": query.target,
        "method": found.method,
        "rank": found.rank,
        "passage": passage.id,
        "category": str(found.category),
    }


def _example(study: Headroom, found: Found) -> dict[str, Any]:
    """For a person to check: what they have to read, the category, and room for their own label."""
    fact = study.facts[found.query.id]
    read = {"prompt": found.query.prompt, "subject": fact.entity0, "relation": fact.relation}
    return {**_row(found), **read, "text": found.passage.text, "label": ""}


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with written_whole(path) as aside:
        aside.write_text(as_csv(list(rows[0]), [list(row.values()) for row in rows]), encoding="utf-8")
