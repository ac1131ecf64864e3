"""Training on what was selected: does a subset help queries that took no part in choosing it?

Half of each relation's facts choose passages from the run; its model is trained further on them, and the loss
on the other half is measured, against as many passages that BM25, the sum of the scores or chance choose.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from proponent.attribute.candidates import Candidates
from proponent.attribute.method import Method
from proponent.attribute.subset import CANDIDATES, Aim, selected
from proponent.corpus.queries import Queries
from proponent.evaluate.experiments.continued import BATCH, EPOCHS, Continued
from proponent.evaluate.experiments.facts_study import FactsStudy
from proponent.evaluate.experiments.figures import Figure
from proponent.evaluate.experiments.study import BM25, RANDOM, every_other
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.lines import GrowingFile, number, text
from proponent.evaluate.metrics import Estimate, estimate, mean, paired_difference
from proponent.evaluate.text import points

SHARES = (0.01, 0.05)  # of the run's rows: the two budgets
SEEDS = 5
RATES = (3e-5, 1e-4, 3e-4, 1e-3)
TOP = "top by sum of scores"
FUNCTIONS = {
    TOP: {"decay": 1.0},
    "facility location": {"decay": 0.0},
    "support, decay 1/2": {"decay": 0.5},
    "log-det": {"function": "log-det"},
}
METHODS = (RANDOM, BM25, *FUNCTIONS)
Losses = dict[str, float]


@dataclass
class Selection(FactsStudy):
    """Facts, half of each relation to choose passages for and half to judge them by."""

    name: ClassVar[str] = "selection"

    @cached_property
    def chosen_for(self) -> frozenset[str]:
        """Ids of the facts that passages are chosen for: every other one of a relation, ordered by hash."""
        by_relation: dict[str, list[str]] = {}
        for query in self.queries:
            by_relation.setdefault(self.group(query.id), []).append(query.id)
        return frozenset(id for ids in by_relation.values() for id in every_other(ids))

    def half(self, judged: bool) -> Queries:
        """The facts that take no part in choosing, or those that do."""
        return self.queries.subset([q.id for q in self.queries if (q.id in self.chosen_for) != judged])

    @property
    def budgets(self) -> tuple[int, ...]:
        """How many passages are chosen."""
        return tuple(max(1, round(share * len(self.index))) for share in SHARES)

    @cached_property
    def candidates(self) -> Candidates:
        """Passages with their TrackStar scores under R_train.

        A task mix would take out what all facts of a relation share, which is what helps the others.
        """
        each, method = max(CANDIDATES, *self.budgets), Method.of("trackstar")
        return Candidates.of(self.tracer, self.half(judged=False), method, None, each, self.given.progress)

    @cached_property
    def by_words(self) -> list[str]:
        """Texts of the passages that BM25 finds, by the sum of their scores over the queries."""
        sums, texts = Counter[str](), dict[str, str]()
        for hit in self.retrieved("bm25", self.half(judged=False), max(self.budgets)):
            for passage in hit.proponents:
                sums[passage.id] += passage.score  # type: ignore[assignment]
                texts[passage.id] = passage.text
        return [texts[id] for id, _ in sums.most_common()]

    def texts(self, method: str, budget: int, seed: int) -> list[str]:
        """The passages that a method chooses; the seed decides what chance chooses."""
        if method == RANDOM:
            return random.Random(seed).sample([example.text for example in self.corpus], budget)
        if method == BM25:
            return self.by_words[:budget]
        aim = Aim(budget, **FUNCTIONS[method])  # type: ignore[arg-type]
        return [passage.text for passage in selected(self.candidates, aim, {})]

    def trained(self, trainings: Sequence[Further]) -> dict[Further, Losses]:
        """−log p(target) of every fact after each training, kept in ``losses.jsonl`` as they are done."""
        path = self.folder / "losses.jsonl"
        self.keeps(path)  # or it is gone: the passages were chosen by another run
        file = GrowingFile(path, "training", "losses after trainings")
        with file.held():
            known = known_losses(file)
            missing = [training for training in trainings if str(training) not in known]
            with file.appending() as append:
                for training, losses in self._train(missing):
                    known[str(training)] = losses
                    append({"training": str(training), "losses": losses})
        return {training: known[str(training)] for training in trainings}

    def _train(self, trainings: Sequence[Further]) -> Iterator[tuple[Further, Losses]]:
        if not trainings:
            return
        texts = [self.texts(t.method, t.budget, t.seed) if t.budget else [] for t in trainings]
        spec = self.tracer.spec
        model = Continued.load(spec.model, self.given.device, spec.max_length)
        with self.given.progress.stage("training", len(trainings), "trainings") as advance:
            for training, chosen in zip(trainings, texts, strict=True):
                model.restart()
                model.train(chosen, training.rate, training.seed)
                yield training, model.losses(self.queries)
                advance(1)


def known_losses(file: GrowingFile) -> dict[str, Losses]:
    """The losses in a file by the name of the training; InputError for a file of something else."""

    def made(record: Mapping[str, Any]) -> tuple[str, Losses]:
        return text(record["training"]), {id: number(loss) for id, loss in dict(record["losses"]).items()}

    return dict(found for _, found in file.records(made))


class Further(NamedTuple):
    """What a model was trained further on, and how; a budget of 0 is none."""

    method: str
    budget: int
    seed: int
    rate: float

    def __str__(self) -> str:
        return f"{self.method}, {self.budget} passages, seed {self.seed}, rate {self.rate:g}"


UNTRAINED = Further("nothing", 0, 0, 0.0)
COLUMNS = (
    *("passages", "method", "in top", "change", f"minus {RANDOM}", f"minus {BM25}", "minus top"),
    *("own: change", "own: minus top"),
)


def selection(study: Selection) -> Table:
    """Loss on facts that took no part in choosing, after training on what was chosen for the others."""
    rate, before = _rate(study), _mean_losses(study, [UNTRAINED])
    own_before = _mean_losses(study, [UNTRAINED], judged=False)
    rows, lines = [], dict[str, list[tuple[float, Estimate]]]()
    for budget in study.budgets:
        trainings = {m: [Further(m, budget, seed, rate) for seed in range(SEEDS)] for m in METHODS}
        held = {method: _mean_losses(study, of) for method, of in trainings.items()}
        own = {method: _mean_losses(study, of, judged=False) for method, of in trainings.items()}
        for method in METHODS:
            change = paired_difference(held[method], before)
            own_change = paired_difference(own[method], own_before)
            lines.setdefault(method, []).append((budget, change))
            beside = [*((held, other) for other in (RANDOM, BM25, TOP)), (own, TOP)]
            cells = [
                "—" if method == other else points(paired_difference(of[method], of[other]))
                for of, other in beside
            ]
            chosen = study.texts(method, budget, seed=0)
            few = "" if len(chosen) == budget else f"{len(chosen):,} of "
            shared = len(set(chosen) & set(study.texts(TOP, budget, seed=0))) / len(chosen)
            made = (f"{shared:.2f}", points(change), *cells[:3], points(own_change), cells[3])
            rows.append((f"{few}{budget:,}", method, *made))
    figure = Figure("Loss on held-out facts", "passages", "change of loss (nats)", lines, log=True)
    title = "Training on what was selected"
    return Table(title, COLUMNS, tuple(rows), (_note(study, rate),), {"figure": figure})


def _note(study: Selection, rate: float) -> str:
    judged, chosen = len(study.half(judged=True)), len(study.chosen_for)
    before = estimate(_mean_losses(study, [UNTRAINED]))
    return (
        f"Change of −log p(target) in nats, mean over {judged} held-out facts, and over the {chosen} facts "
        f"of the same relations that passages were chosen for (own). Held-out without training {before}. "
        f"AdamW, rate {rate:g} (of {len(RATES)} the best on the own half, with random passages), {EPOCHS} "
        f"passes, {BATCH} passages a step, {SEEDS} seeds; 95% bootstrap intervals over facts. Less is "
        "better. In top: the share of the passages that the top by sum has as well. Facility location ends "
        "where no passage adds anything."
    )


def _rate(study: Selection) -> float:
    """The rate with the least loss on the facts that choose, after training on random passages."""
    tried = [Further(RANDOM, max(study.budgets), SEEDS, rate) for rate in RATES]
    ids = [query.id for query in study.half(judged=False)]
    found = study.trained(tried)
    return min(tried, key=lambda training: mean([found[training][id] for id in ids])).rate


def _mean_losses(study: Selection, trainings: Sequence[Further], judged: bool = True) -> list[float]:
    """Each fact's loss, the mean over trainings; of those held out, or of those that choose."""
    found = study.trained(trainings).values()
    return [mean([losses[query.id] for losses in found]) for query in study.half(judged)]
