"""The linear datamodeling score: do scores predict what models trained on random halves of the corpus say?

A method predicts, for a half, the sum of its scores over the passages in it.  LDS is Spearman's correlation
over halves between that and log p(target) after retraining (Park et al., TRAK, 2023), averaged over queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from proponent.attribute.attribution import Attribution
from proponent.attribute.baselines import text_scores
from proponent.attribute.exact import exact_scores
from proponent.attribute.method import Method
from proponent.attribute.tokens import indexed_chunks
from proponent.attribute.tracing import Tracer
from proponent.build.compact import compact
from proponent.errors import InputError
from proponent.evaluate.evaluation import evaluate
from proponent.evaluate.experiments.facts_study import KNOWN, WHITE, WIDER
from proponent.evaluate.experiments.keeping import file_name
from proponent.evaluate.experiments.study import BM25, PATCHED, TRACKSTAR
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.experiments.trained_again import TrainedAgain
from proponent.evaluate.gold import Gold
from proponent.evaluate.metrics import estimate, mean, paired_difference, spearman
from proponent.evaluate.retraining import Training
from proponent.evaluate.text import points
from proponent.gradients.reference import EKFAC
from proponent.index.mix import WHITE_MIX
from proponent.index.run import Index
from proponent.index.search import best
from proponent.index.storage import read_tensors, write_tensors

GOLD = "gold passages as scores"
HALVES = 48
SEEDS = (1, 2)
COMPACT = 4096  # bytes a passage of the compact run of the widest features
EXACT_TOP = 100  # of its first passages that are scored again


@dataclass
class Halves(TrainedAgain):
    """Models trained again on random halves of the run's passages."""

    name: ClassVar[str] = "lds"

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

    def contender(self, method: str, run: Path | None = None, mix: float | str | None = None) -> Contender:
        """A gradient method; run: a variant.  mix: λ, with the queries as the task; None for no task."""
        hits = self.traced(method, mix is not None, "auto" if mix is None else mix, run)
        tracer = self.opened(run) if run else self.tracer
        return Contender(tracer.index.dim, self.predicted(tracer, method, mix), hits)

    def exact(self, method: str, run: Path | None = None) -> Contender:
        """The same without projection."""
        name = f"{method} projected=no" + (f" in {run.name}" if run else "")
        return self.scored(name, self.exact_scores(method, run), [run] if run else [])

    def exact_scores(self, method: str, run: Path | None = None) -> Tensor:
        """Scores [q, rows] without projection."""

        def make() -> list[Tensor]:
            tracer, rows = self.opened(run) if run else self.tracer, range(len(self.index))
            how = Method.of(method)
            return [exact_scores(tracer, list(self.queries), how, rows, self.given.progress)]

        name = f"{method} projected=no" + (f" in {run.name}" if run else "")
        return self.kept(name, make, [run] if run else [])[0]

    def kept(self, name: str, make: Callable[[], list[Tensor]], runs: Sequence[Path] = ()) -> list[Tensor]:
        """Scores [q, rows] that take minutes, from their file or made and written to it.

        runs: that they are of, as of ``keeps``.
        """
        path = self.folder / "scores" / f"{file_name(name)}.safetensors"
        if not self.keeps(path, runs):
            made = make()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(path, {f"{n}": scores for n, scores in enumerate(made)})
        try:
            found = read_tensors(path)
        except InputError as error:
            raise InputError(f"{path}: damaged; remove it, and its scores are made again") from error
        return [found[f"{n}"] for n in range(len(found))]

    def averaged(self, runs: Sequence[Path], method: str) -> Contender:
        """The mean of what a method gives in several runs."""
        tracers = (self.opened(run) for run in runs)
        sums = torch.stack([self.predicted(tracer, method) for tracer in tracers]).mean(0)
        dim = sum(Index(run).dim for run in runs)
        return Contender(dim, sums, self.averaged_hits(runs, method))

    def averaged_exact(self, runs: Sequence[Path]) -> Contender:
        """The same of scores without projection."""
        scores = torch.stack([self.exact_scores("exact", run) for run in runs]).mean(0)
        return self.scored(f"exact in {runs[0].name} and {len(runs) - 1} more", scores, runs)

    def compact(self, run: Path, size: int = COMPACT) -> Path:
        """A compact run of a variant."""
        folder = run.with_name(f"{run.name}-{size}")
        compact(run, folder, size, self.given.progress)
        return folder

    def two_stages(self, run: Path, full: Path) -> Contender:
        """Codes of a compact run, the first ``EXACT_TOP`` of which are scored again exactly.

        full: the run whose exact scores these are.
        """
        exact = self.exact_scores("exact", full)
        tracer, method = self.opened(run), Method.of("kronecker")
        scan = tracer.scan(tracer.features(self.queries), method)
        scores = torch.cat([scan.scores(shard) for shard in tracer.index.shards()], 1).double()
        first = scores.topk(min(EXACT_TOP, scores.shape[1]), dim=1).indices
        scores.scatter_(1, first, exact.gather(1, first))
        return self.scored(f"kronecker exact top {EXACT_TOP} in {run.name}", scores, [run, full])

    def scored(self, name: str, scores: Tensor, runs: Sequence[Path] = ()) -> Contender:
        """A method without projection of known scores [q, rows]; runs: variants that they are of."""

        def make() -> Attribution:
            tracer, found = self.opened(runs[0]) if runs else self.tracer, best(scores.float(), self.k)
            return tracer.attribution(list(self.queries), found, Method.of("exact"))

        return Contender(0, scores @ self.inside_by_row.double(), self.hits(name, make, runs))

    def ekfac(self) -> tuple[Contender, Contender]:
        """EK-FAC's influence, fitted on all rows, as it is and with unit norm; the slow reference."""
        plain, unit = self.kept("EK-FAC", self._ekfac)
        return self.scored("EK-FAC", plain), self.scored("EK-FAC, unit norm", unit)

    def _ekfac(self) -> list[Tensor]:
        t = self.tracer
        chunks = indexed_chunks(t, range(len(self.index)))
        rows, starts = [chunk.tokens for chunk in chunks], [chunk.start for chunk in chunks]
        self.given.progress.say("EK-FAC of all passages")
        fitted = EKFAC.of(t.model, t.plan.matrices, rows, starts, self.given.seed)
        encoded = [t.model.encoder.query(query, t.spec.max_length) for query in self.queries]
        asked = [query.tokens for query in encoded], [query.boundary for query in encoded]
        products, ours, theirs = fitted.products(asked, (rows, starts))
        return [products, torch.nan_to_num(products / ours[:, None] / theirs)]

    def predicted(self, tracer: Tracer, method: str, mix: float | str | None = None) -> Tensor:
        """Sums [q, halves] of a gradient method's scores over each half."""
        how = Method.of(method)
        task = tracer.task_mix(self.queries, mix, how.output) if mix is not None else None
        scan = tracer.scan(tracer.features(self.queries, how.output), how, task)
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


@dataclass(frozen=True)
class Contender:
    """A method beside others.

    dim: coordinates of its features; 0 for none.  sums: [q, halves].  hits: its lists, for retrieval.
    """

    dim: int
    sums: Tensor
    hits: Attribution | None = None


def contenders(study: Halves) -> Iterator[tuple[str, Contender]]:
    """Every method: text search, what an annotator knows, and gradients with each kind of second moment."""
    for name, kind in ((BM25, "bm25"), ("embedding", "embedding")):
        yield name, Contender(0, study.by_text(kind), study.baseline(kind))
    yield GOLD, Contender(0, study.by_gold())
    (no_v,) = study.variants([{"second_moment": "none"}])
    for name, method in (("TRAK", "trak"), ("dot, no V", "dot"), ("cosine, no V", "cosine")):
        yield name, study.contender(method, no_v)
    for name, method in (("dot, V", "dot"), ("cosine, V", "cosine"), ("TrackStar, R_train", "trackstar")):
        yield name, study.contender(method)
    yield TRACKSTAR, study.contender("trackstar", mix="auto")
    dims = list(dict.fromkeys((study.index.dim, max(study.index.dim, WIDER))))
    (wide,) = study.variants([{"hessian": "identity", "dim": dims[-1]}])
    yield f"V, cosine, {dims[-1]:,}", study.contender("kronecker", wide)
    factored = study.variants([{**WHITE, "dim": dim} for dim in dims])
    for dim, run in zip(dims, factored, strict=True):
        yield f"Kronecker, cosine, {dim:,}", study.contender("kronecker", run)
        yield f"Kronecker, mix, {dim:,}", study.contender("kronecker", run, WHITE_MIX)
    yield "Kronecker, exact", study.exact("exact", factored[0])
    (margin,) = study.variants([{**WHITE, "dim": dims[-1], "output": "margin"}])
    yield f"Kronecker, margin, {dims[-1]:,}", study.contender("kronecker", margin)
    yield "Kronecker, margin, exact", study.exact("exact", margin)
    codes = study.compact(factored[-1])
    size = f"{COMPACT:,} bytes"
    yield f"Kronecker, cosine, {size}", study.contender("kronecker", codes)
    yield f"Kronecker, mix, {size}", study.contender("kronecker", codes, WHITE_MIX)
    yield f"Kronecker, margin, {size}", study.contender("kronecker", study.compact(margin))
    yield f"Kronecker, {size}, exact first {EXACT_TOP}", study.two_stages(codes, factored[0])
    if len(study.along) > 1:
        count = f"{len(study.along)} checkpoints"
        yield f"Kronecker, cosine, {count}", study.averaged(study.along, "kronecker")
        yield f"Kronecker, exact, {count}", study.averaged_exact(study.along)
        each = 1 << (COMPACT // len(study.along)).bit_length() - 1  # bytes, a power of two
        small = [study.compact(run, each) for run in study.along]
        yield f"Kronecker, {each * len(small):,} bytes, {count}", study.averaged(small, "kronecker")
    yield "V, exact cosine", study.exact("cosine")
    plain, unit = study.ekfac()
    yield "EK-FAC", plain
    yield "EK-FAC, unit norm", unit


def lds(study: Halves) -> Table:
    """LDS, MRR, Recall@10 and tail-patch of every method, and the ceiling of one retraining by another."""
    truth, gold = study.truth, Gold.read(study.given.facts_file)
    values, dims, found = dict[str, list[float]](), dict[str, str](), dict[str, list[str]]()
    first = dict[str, Attribution]()
    for name, one in contenders(study):
        values[name] = correlations(one.sums, truth.mean(0))
        dims[name] = f"{one.dim:,}" if one.dim else "—"
        if one.hits:
            judged = evaluate(one.hits, gold, name).estimates()
            found[name] = [str(judged[metric]) for metric in ("MRR", "Recall@10")]
            first[name] = Attribution(tuple(study.cut(one.hits)), one.hits.settings)
    for name, effects in study.patched(first).items():
        found[name].append(points(estimate(list(effects.values()))))
    rows, paper = [], values[TRACKSTAR]
    for name, per_fact in values.items():
        beside = "—" if name == TRACKSTAR else str(paired_difference(per_fact, paper))
        cells = found.get(name, ["—", "—", "—"])
        rows.append((name, dims[name], str(estimate(per_fact)), beside, *cells))
    ceiling = correlations(truth[0].T, truth[1])
    rows.append(("one retraining by another", "—", str(estimate(ceiling)), *("—" for _ in range(4))))
    columns = ("method", "d", "LDS", "minus TrackStar", "MRR", "Recall@10", "tail-patch")
    return Table("Linear datamodeling score", columns, tuple(rows), (_note(study, ceiling),))


def correlations(predicted: Tensor, truth: Tensor) -> list[float]:
    """Spearman's correlation of each query over halves; predicted: [q, halves].  truth: [halves, q]."""
    return [spearman(ours, theirs) for ours, theirs in zip(predicted.tolist(), truth.T.tolist(), strict=True)]


def _note(study: Halves, ceiling: Sequence[float]) -> str:
    one, after = mean(ceiling), study.truth.mean(0).exp()
    best, knows = (2 * one / (1 + one)) ** 0.5, float((after >= KNOWN).float().sum(1).mean())
    return (
        f"{HALVES} random halves of {len(study.retraining.passages):,} passages, {len(SEEDS)} trainings of "
        f"each, whose log p(target) are averaged: a perfect prediction would reach {best:.3f}. Over "
        f"{len(study.queries):,} facts, 95% bootstrap intervals over them. The run's model knows "
        f"{len(study.known):,} of them (p >= {KNOWN}), one of a half {knows:,.0f}. Tail-patch: the first "
        f"{PATCHED} proponents of {len(study.patch_ids)} facts, one step on each, in percentage points."
    )
