"""Removal: what the model says of a fact once it is trained without the passages that a method names for it.

The passages of some facts are left out together in one training, those of the others in further ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from proponent.attribute.attribution import Attribution, Hit
from proponent.errors import InputError
from proponent.evaluate.experiments.facts_study import KNOWN, WIDER
from proponent.evaluate.experiments.figures import Figure
from proponent.evaluate.experiments.study import BM25, RANDOM, TRACKSTAR
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.experiments.trained_again import TrainedAgain
from proponent.evaluate.metrics import Estimate, estimate, mean, paired_difference
from proponent.evaluate.retraining import Training
from proponent.evaluate.text import points
from proponent.index.mix import WHITE_MIX

FACTS = 72  # that are looked at
MOST = 1 / 8  # of the corpus that one training leaves out, for as many facts as that takes
TOP = (1, 3, 10)
SHARE = 0.01  # of the corpus, as one more number of passages
SEEDS = (1,)  # of the trainings; more of them add less than more facts


@dataclass
class Removal(TrainedAgain):
    """Models trained again without passages that methods name."""

    name: ClassVar[str] = "removal"

    @cached_property
    def asked(self) -> list[str]:
        """Ids of facts that the run's model knows, spread over the relations; InputError for none."""
        if not self.known:
            raise InputError(f"{self.run}: its model knows none of the facts, so nothing can be removed")
        return self.spread(self.known, FACTS)

    def batches(self, k: int) -> list[list[str]]:
        """The facts whose first k passages are left out together, as evenly as may be."""
        together = max(1, int(MOST * len(self.retraining.passages) / k))
        count = math.ceil(len(self.asked) / together)
        return [self.asked[n::count] for n in range(count)]

    @property
    def numbers(self) -> tuple[int, ...]:
        """How many passages are left out for a fact."""
        share = max(1, round(SHARE * len(self.retraining.passages)))
        return tuple(sorted({k for k in (*TOP, share) if k <= self.k}))

    def methods(self) -> dict[str, Attribution]:
        """The hits of every method."""
        wide, own = self.white(WIDER), self.white(self.index.dim)
        found = {
            RANDOM: self.baseline("random"),
            BM25: self.baseline("bm25"),
            TRACKSTAR: self.traced("trackstar", task=True),
            f"Kronecker, mix, {WIDER:,}": self.traced("kronecker", task=True, mix=WHITE_MIX, run=wide),
            "Kronecker, exact": self.traced("exact", run=own),
        }
        if len(self.along) > 1:
            name = f"Kronecker, exact, {len(self.along)} checkpoints"
            found[name] = self.averaged_hits(self.along, "exact")
        return found

    def trainings(self, name: str, hits: Attribution, k: int) -> Iterator[tuple[list[str], Training]]:
        """For each batch of facts and each seed, the training without the batch's passages."""
        numbers = {passage.id: n for n, passage in enumerate(self.retraining.passages)}
        by_id = {hit.query.id: hit for hit in hits}
        for number, batch in enumerate(self.batches(k)):
            named = (first_sources(by_id[id], k) for id in batch)
            without = frozenset(numbers[source] for sources in named for source in sources)
            for seed in SEEDS:
                yield batch, Training(f"{name}, top {k}, batch {number}, seed {seed}", without, seed)

    @cached_property
    def planned(self) -> dict[tuple[str, int], list[tuple[list[str], Training]]]:
        """The trainings of every method and number of passages."""
        return {
            (name, k): list(self.trainings(name, hits, k))
            for k in self.numbers
            for name, hits in self.methods().items()
        }

    @cached_property
    def whole(self) -> dict[int, Training]:
        """The trainings on the whole corpus, by seed."""
        return {seed: Training(f"whole, seed {seed}", frozenset(), seed) for seed in SEEDS}

    @cached_property
    def truth(self) -> dict[Training, list[float]]:
        """log p(target) of every query after every training, which are all made side by side."""
        without = (training for planned in self.planned.values() for _, training in planned)
        return self.retraining.log_probabilities([*self.whole.values(), *without], self.given.progress)

    def changes(self, name: str, k: int) -> tuple[list[float], list[float]]:
        """Change of each fact's p, in percentage points, and of its log p, in nats; the mean over seeds."""
        known = self.truth
        places = {query.id: n for n, query in enumerate(self.queries)}
        found: dict[str, list[tuple[float, float]]] = {id: [] for id in self.asked}
        for batch, training in self.planned[name, k]:
            before, after = known[self.whole[training.seed]], known[training]
            for id in batch:
                was, now = before[places[id]], after[places[id]]
                found[id].append((100 * (math.exp(now) - math.exp(was)), now - was))
        means = [tuple(map(mean, zip(*values, strict=True))) for values in found.values()]
        return [p for p, _ in means], [nats for _, nats in means]


def first_sources(hit: Hit, k: int) -> list[str]:
    """The first k different passages of a hit, whatever chunks of them were found."""
    return list(dict.fromkeys(passage.source for passage in hit.proponents))[:k]


def removal(study: Removal) -> Table:
    """What leaving out the first k passages of each method does to p(target) and to log p(target)."""
    rows, lines = [], dict[str, list[tuple[float, Estimate]]]()
    for k in study.numbers:
        found = {name: study.changes(name, k) for name, at in study.planned if at == k}
        for name, (changes, nats) in found.items():
            lines.setdefault(name, []).append((float(k), estimate(nats)))
            beside = [
                "—" if name == other else points(paired_difference(nats, found[other][1]))
                for other in (RANDOM, BM25, TRACKSTAR)
            ]
            rows.append((f"{k}", name, points(estimate(changes)), points(estimate(nats)), *beside))
    others = (f"nats minus {name}" for name in (RANDOM, BM25, TRACKSTAR))
    figure = Figure("Training without the first k passages", "k", "change of log p (nats)", lines, log=True)
    note = (
        f"Change of p(target), in percentage points, and of log p(target), over {len(study.asked)} of the "
        f"{len(study.known):,} facts that the run's model knows (p >= {KNOWN}). One training leaves out the "
        f"passages of several facts, up to {MOST:.1%} of the {len(study.retraining.passages):,}; "
        f"seeds {', '.join(map(str, SEEDS))}, beside the whole corpus with the same; 95% bootstrap intervals "
        "over facts. Lower is better."
    )
    columns = ("left out", "method", "points", "nats", *others)
    return Table("Retrained without the passages", columns, tuple(rows), (note,), {"figure": figure})
