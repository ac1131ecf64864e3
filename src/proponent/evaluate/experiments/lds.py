"""The linear datamodeling score: do scores predict what models trained on random halves of the corpus say?

A method predicts, for a half, the sum of its scores over the passages in it.  LDS is Spearman's correlation
over halves between that and log p(target) after retraining (Park et al., TRAK, 2023), averaged over queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from proponent.attribute.baselines import text_scores
from proponent.attribute.method import Method
from proponent.attribute.probability import target_probabilities
from proponent.attribute.tracing import Tracer
from proponent.evaluate.experiments.facts_study import FactsStudy
from proponent.evaluate.experiments.study import BM25, TRACKSTAR
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.metrics import estimate, mean, paired_difference, spearman
from proponent.evaluate.retraining import Retraining, Training
from proponent.pretraining.again import Recipe

HALVES = 48
SEEDS = (1, 2)
KNOWN = 0.5  # p(target) from which a model knows a fact


@dataclass
class Halves(FactsStudy):
    """Models trained again on random halves of the run's passages."""

    name: ClassVar[str] = "lds"

    @cached_property
    def retraining(self) -> Retraining:
        """The run's model and passages, ready to be trained again."""
        recipe = Recipe.of(self.tracer.spec.model)
        length = self.tracer.spec.max_length
        return Retraining(
            recipe, tuple(self.passages), tuple(self.queries), length, self.folder / "truth.jsonl"
        )

    @cached_property
    def inside(self) -> Tensor:
        """Whether each passage [n] is in each half [halves], as 0 and 1."""
        number = len(self.retraining.passages)
        halves = torch.zeros(number, HALVES)
        for half in range(HALVES):
            draw = np.random.default_rng((self.given.seed, half))
            halves[torch.from_numpy(draw.permutation(number)[: number // 2]), half] = 1
        return halves

    @cached_property
    def truth(self) -> Tensor:
        """log p(target) [seeds, halves, q] after training on each half with each seed."""
        trainings = [
            Training(f"half {half}, seed {seed}", frozenset(out.nonzero()[:, 0].tolist()), seed)
            for seed in SEEDS
            for half, out in enumerate(self.inside.T == 0)
        ]
        found = self.retraining.log_probabilities(trainings, self.given.progress)
        return torch.tensor([found[training] for training in trainings]).view(len(SEEDS), HALVES, -1)

    @cached_property
    def inside_by_row(self) -> Tensor:
        """The same [rows, halves] of the run's rows, chunks of their passages."""
        numbers = {passage.id: n for n, passage in enumerate(self.retraining.passages)}
        return self.inside[[numbers[row.source] for row in self.index.rows()]]

    def predicted(self, method: str, task: bool = False, tracer: Tracer | None = None) -> Tensor:
        """Sums [q, halves] of a gradient method's scores over each half.

        task: whether the queries are the task of the mix.  tracer: of a variant of the run.
        """
        tracer, how = tracer or self.tracer, Method.of(method)
        mix = tracer.task_mix(self.queries, "auto", how.output) if task else None
        scan = tracer.scan(tracer.features(self.queries, how.output), how, mix)
        sums = torch.zeros(len(self.queries), HALVES, dtype=torch.float64)
        for shard in tracer.index.shards():
            sums += scan.scores(shard).double() @ self.inside_by_row[shard.positions].double()
        return sums

    def by_text(self, kind: str) -> Tensor:
        """The same of a text search's scores."""
        texts = [row.text for row in self.index.rows()]
        return torch.from_numpy(text_scores(kind, texts, self.queries)).double() @ self.inside_by_row.double()

    def by_gold(self) -> Tensor:
        """The same where a fact's gold passages score 1 and all others 0."""
        numbers = {passage.id: n for n, passage in enumerate(self.retraining.passages)}
        scores = torch.zeros(len(self.queries), len(numbers))
        for n, query in enumerate(self.queries):
            scores[n, [numbers[id] for id in self.facts[query.id].trex_sentences if id in numbers]] = 1
        return (scores @ self.inside).double()


def lds(study: Halves) -> Table:
    """LDS of every method beside text search, and the ceiling of one retraining against another."""
    truth = study.truth
    (no_v,) = study.variants([{"second_moment": "none"}])
    plain = Tracer(no_v, study.given.device)
    predictions: dict[str, Callable[[], Tensor]] = {
        BM25: lambda: study.by_text("bm25"),
        "embedding": lambda: study.by_text("embedding"),
        "gold passages as scores": study.by_gold,
        "TRAK": lambda: study.predicted("trak", tracer=plain),
        "gradient dot, no V": lambda: study.predicted("dot", tracer=plain),
        "gradient cosine, no V": lambda: study.predicted("cosine", tracer=plain),
        "gradient dot, V": lambda: study.predicted("dot"),
        "gradient cosine, V": lambda: study.predicted("cosine"),
        "TrackStar, R_train only": lambda: study.predicted("trackstar"),
        TRACKSTAR: lambda: study.predicted("trackstar", task=True),
    }
    values = {name: correlations(predict(), truth.mean(0)) for name, predict in predictions.items()}
    best = values[TRACKSTAR]
    rows = [
        (name, str(estimate(found)), "—" if name == TRACKSTAR else str(paired_difference(found, best)))
        for name, found in values.items()
    ]
    ceiling = correlations(truth[0].T, truth[1])
    rows.append(("one retraining by another", str(estimate(ceiling)), "—"))
    columns = ("method", "LDS", "minus TrackStar")
    return Table("Linear datamodeling score", columns, tuple(rows), (_note(study, ceiling),))


def correlations(predicted: Tensor, truth: Tensor) -> list[float]:
    """Spearman's correlation of each query over halves; predicted: [q, halves].  truth: [halves, q]."""
    return [spearman(ours, theirs) for ours, theirs in zip(predicted.tolist(), truth.T.tolist(), strict=True)]


def _note(study: Halves, ceiling: Sequence[float]) -> str:
    one, after = mean(ceiling), study.truth.mean(0).exp()
    encoded = [study.tracer.model.encoder.query(q, study.tracer.spec.max_length) for q in study.queries]
    now = target_probabilities(study.tracer.model, encoded, study.tracer.spec.batch_tokens)
    best, knows = (2 * one / (1 + one)) ** 0.5, float((after >= KNOWN).float().sum(1).mean())
    return (
        f"{HALVES} random halves of {len(study.retraining.passages):,} passages, {len(SEEDS)} trainings of "
        f"each, whose log p(target) are averaged: a perfect prediction would reach {best:.3f}. Over "
        f"{len(study.queries):,} facts, 95% bootstrap intervals over them. The run's model knows "
        f"{sum(p >= KNOWN for p in now):,} of them (p >= {KNOWN}), one of a half {knows:,.0f}."
    )
