"""How far to trust "by chance": false finds and true ones at several levels.

A find is a passage whose score so few passages would be expected to reach by chance (see
``attribute/significance.py``).  A find is false where the passage names neither the subject nor the target of
the fact, and where the run has no passage that states the fact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.evaluate.aliases import mentions
from proponent.evaluate.experiments.facts_study import KNOWN, WIDER, FactsStudy
from proponent.evaluate.experiments.study import TRACKSTAR
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.metrics import estimate
from proponent.evaluate.text import percent
from proponent.index.mix import WHITE_MIX

LEVELS = (0.01, 0.05, 0.2)


@dataclass
class Significance(FactsStudy):
    """All facts of the file: of some the run may have no passage."""

    name = "significance"

    @cached_property
    def stated(self) -> frozenset[str]:
        """Ids of the facts that a passage of the run states."""
        here = {row.source for row in self.index.rows()}
        return frozenset(f.fact_id for f in self.facts.values() if not here.isdisjoint(f.trex_sentences))

    def methods(self) -> Iterator[tuple[str, Attribution]]:
        """TrackStar and Kronecker features, with the facts as the task and without."""
        yield TRACKSTAR, self.traced("trackstar", task=True)
        yield f"{TRACKSTAR}, no task", self.traced("trackstar")
        white = self.white(WIDER)
        yield "Kronecker, mix", self.traced("kronecker", task=True, mix=WHITE_MIX, run=white)
        yield "Kronecker, no task", self.traced("kronecker", run=white)

    def names_neither(self, hit: Hit, passage: ScoredPassage) -> bool:
        """Whether a passage names neither the subject nor the target of its query's fact."""
        fact = self.facts[hit.query.id]
        names = (fact.entity0, *fact.entity0_alias, fact.entity1, *fact.entity1_alias)
        return not mentions(passage.text, names)

    def states(self, hit: Hit, passage: ScoredPassage) -> bool:
        """Whether a passage states its query's fact."""
        return passage.source in self.facts[hit.query.id].trex_sentences


def significance(study: Significance) -> Table:
    """Shares of facts with a false find and with a true one, for each method and level."""
    known, any_of = set(study.known) & study.stated, lambda _hit, _passage: True
    rows = []
    for name, hits in study.methods():
        by_id = {hit.query.id: hit for hit in hits}
        groups: tuple[tuple[list[Hit], Callable[[Hit, ScoredPassage], bool]], ...] = (
            (list(hits), study.names_neither),
            ([hit for id, hit in by_id.items() if id not in study.stated], any_of),
            ([by_id[id] for id in sorted(known)], study.states),
            ([hit for id, hit in by_id.items() if id in study.stated - known], study.states),
        )
        for level in LEVELS:
            rows.append((name, f"{level}", *(_share(group, level, which) for group, which in groups)))
    columns = (
        *("method", "at most, by chance", "finds of no name", "finds, not stated"),
        *("found, known", "found, not known"),
    )
    note = (
        f"Percent of facts with a passage whose score at most so many of the run's {len(study.index):,} "
        f"would reach by chance, among the {study.k} retrieved; 95% bootstrap intervals over facts. Of no "
        f"name: one that names neither subject nor target, of all {len(study.queries):,} facts. Not stated: "
        f"any, of the {len(study.queries) - len(study.stated):,} facts that no passage states. Found: one "
        f"that states the fact, of the {len(known):,} stated facts that the model knows (p >= {KNOWN}) and "
        f"the {len(study.stated) - len(known):,} others."
    )
    return Table("Does a score stand out?", columns, tuple(rows), (note,))


def _share(hits: list[Hit], level: float, which: Callable[[Hit, ScoredPassage], bool]) -> str:
    if not hits:
        return "—"
    found = (
        any(p.chance is not None and p.chance <= level and which(hit, p) for p in hit.proponents)
        for hit in hits
    )
    return percent(estimate([float(value) for value in found]))
