"""The open set (Table 2): any corpus, without annotations; entailment says which passages state a fact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from proponent.attribute.attribution import Attribution, Hit
from proponent.evaluate.entailment import Judge, NliModel, Pair, Rule
from proponent.evaluate.experiments.closed_set import Scores
from proponent.evaluate.experiments.facts_study import FactsStudy
from proponent.evaluate.experiments.figures import Figure, Line
from proponent.evaluate.experiments.keeping import file_name
from proponent.evaluate.experiments.study import BM25, RANDOM, TRACKSTAR
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.experiments.verdicts import Verdict
from proponent.evaluate.metrics import estimate, hits_within, reciprocal_ranks

TOP = 10  # passages of a query that are judged


class Judged(NamedTuple):
    """Hits of a method, the first passages only, with the verdict on each."""

    hits: list[Hit]
    verdicts: list[list[Verdict]]

    @property
    def correct(self) -> list[list[bool]]:
        """Whether each passage is gold, best first."""
        return [[verdict.gold for verdict in row] for row in self.verdicts]


@dataclass
class OpenSet(FactsStudy):
    """All facts of a file, whether or not the corpus is known to state them."""

    name = "open-set"

    @cached_property
    def judge(self) -> Judge:
        """The model that was given, else the rule."""
        return NliModel(self.given.nli, self.given.device) if self.given.nli else Rule()

    def methods(self) -> dict[str, Attribution]:
        """Hits of each method."""
        return {
            RANDOM: self.baseline("random"),
            BM25: self.baseline("bm25"),
            "embedding": self.baseline("embedding"),
            "gradient dot": self.traced("dot"),
            "gradient cosine": self.traced("cosine"),
            TRACKSTAR: self.traced("trackstar", task=True),
        }

    def judged(self, methods: Mapping[str, Attribution]) -> dict[str, Judged]:
        """The first passages of each method with verdicts; each pair is judged once."""
        cuts = {n: [replace(h, proponents=h.proponents[:TOP]) for h in hits] for n, hits in methods.items()}
        queries = {query.id: query for query in self.queries}
        pairs = {
            name: [[Pair(passage.text, queries[hit.query.id]) for passage in hit.proponents] for hit in cut]
            for name, cut in cuts.items()
        }
        verdicts = self.verdicts(self.judge)
        verdicts.of([pair for rows in pairs.values() for row in rows for pair in row], self.given.progress)
        return {
            name: Judged(cuts[name], [verdicts.of_known(row) for row in rows]) for name, rows in pairs.items()
        }


def open_set(study: OpenSet) -> Table:
    """MRR, Recall@10 and tail-patch of every method; the judged hits are written beside the table."""
    judge = study.judge  # before anything is traced: can it be loaded?
    methods = study.methods()
    judged, effects = study.judged(methods), study.patched(methods)
    rows, lines = [], dict[str, Line]()
    for name, found in judged.items():
        settings = {**methods[name].settings, "gold": judge.name}
        written = Attribution(tuple(map(_with_verdicts, found.hits, found.verdicts)), settings)
        written.write(study.folder / "judged" / f"{file_name(name)}.jsonl")
        correct = found.correct
        ranks, within = estimate(reciprocal_ranks(correct)), estimate(hits_within(correct, TOP))
        rows.append((name, *Scores(ranks, within, estimate(list(effects[name].values()))).cells))
        lines[name] = [(k, estimate(hits_within(correct, k))) for k in range(1, TOP + 1)]
    by_whom = judge.name if study.given.nli else "the rule"
    title = f"Open set, gold by {by_whom}"
    figure = Figure(f"Facts with gold among the first k, by {by_whom}", "k", "share of facts", lines)
    columns = ("method", "MRR", "Recall@10", "tail-patch")
    return Table(title, columns, tuple(rows), _notes(study, judged), {"figure": figure})


def _with_verdicts(hit: Hit, verdicts: Sequence[Verdict]) -> Hit:
    """The hit with the paper's fields on entailment."""
    fields = {
        **hit.query.fields,
        "proponent_ais_scores": [verdict.score for verdict in verdicts],
        "proponent_ais_best_windows": [verdict.window for verdict in verdicts],
    }
    judged = zip(hit.proponents, verdicts, strict=True)
    proponents = tuple(replace(passage, correct=verdict.gold) for passage, verdict in judged)
    return replace(hit, query=replace(hit.query, fields=fields), proponents=proponents)


def _notes(study: OpenSet, judged: Mapping[str, Judged]) -> tuple[str, ...]:
    """Who judged, on what, and how far the judge agrees with the facts' own lists where there are any."""
    rule = "a sentence with an alias of the subject and one of the object; no model judged"
    who = f"'{study.judge.name}' above 0.5" if study.given.nli else f"a rule: {rule}"
    pool = [found for found in judged.values() if found.hits]
    gold = {
        hit.query.id for found in pool for hit, row in zip(found.hits, found.correct, strict=True) if any(row)
    }
    notes = [
        f"Gold is by {who}. Only the first {TOP} passages of each method are judged: a fact with none among "
        f"them counts 0. Some method finds one for {len(gold)} of {len(study.queries)} facts.",
        f"Tail-patch of the top 10 over {len(study.patch_ids)} facts, in percentage points; 95% bootstrap "
        "intervals.",
    ]
    return (*notes, *_agreement(study, pool))


def _agreement(study: OpenSet, pool: Sequence[Judged]) -> list[str]:
    """A line on how far the judge agrees with the passages that facts list; none where they list none."""
    listed = {id: set(fact.trex_sentences) for id, fact in study.facts.items() if fact.trex_sentences}
    seen = {
        (hit.query.id, passage.source): verdict.gold
        for found in pool
        for hit, row in zip(found.hits, found.verdicts, strict=True)
        for passage, verdict in zip(hit.proponents, row, strict=True)
        if hit.query.id in listed
    }
    stated = {pair for pair in seen if pair[1] in listed[pair[0]]}
    said = {pair for pair, gold in seen.items() if gold}
    if not stated or not said:
        return []
    both = len(stated & said)
    return [
        f"Of {len(seen):,} judged pairs of facts that list their passages, {len(said):,} are gold here and "
        f"{len(stated):,} by the lists: precision {both / len(said):.2f}, recall {both / len(stated):.2f}."
    ]
