"""A short measurement of this machine by the code that builds: some rows of a model, and one block of R.

Every stage is run on little, in a folder of its own that is removed; what it counts by the formulas, over the
seconds that it took, is its rate.  Tokens and features are random: neither changes the work.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from proponent.build.compact import Encoder
from proponent.build.marks import Marks
from proponent.build.plan import PLAN, StagedShard, cut_shards, stage
from proponent.build.tasks import START, Build, features, features_name, later_stages
from proponent.corpus.example import Example
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.kronecker import KroneckerSums, together
from proponent.gradients.layers import LayerPlan, Matrix
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import SecondMoments, fold_moments, sample_moments
from proponent.gradients.projection import gaussian_projection
from proponent.gradients.spec import FeatureSpec
from proponent.gradients.sweep import Sweep
from proponent.index.codec import Rows, encode
from proponent.index.damping import Damping
from proponent.index.eigen import EigenWhitening
from proponent.index.hessian import HessianBlock
from proponent.index.run import Passage, RunFolder
from proponent.index.search import Shard
from proponent.index.sketch import Sketch
from proponent.index.storage import write_tensors
from proponent.index.whitening import ScaledIdentity
from proponent.progress import Progress
from proponent.scale import cost
from proponent.scale.machines import Speeds
from proponent.scale.shapes import FeatureShape, Job, ModelShape
from proponent.scale.stages import COMPACTING, Stage, build_stages, compact_stage

BATCHES = 2  # of a timed pass: one alone would be run by all threads together
ROUNDS, LONG, LONG_ENOUGH = 3, 10.0, 2.0  # times of a part, seconds after which it ends, and before which not
FILE, FEATURES = 2**24, 2**24  # numbers of the file that times the disk, and of features of later stages
LEAST = 0.1  # share of a stage's seconds that is its own work, however long its files seem to take
NAMES = {"R_train": "R", "R_train, summed": "R, summed", "factors and eigenvalues": "factors"}
Rates = dict[str, float]


def measured_speeds(
    model: LanguageModel, plan: LayerPlan, job: Job, spec: FeatureSpec, network: float, progress: Progress
) -> Speeds:
    """The speeds of this machine at a job, with as many threads as torch has; the model ends in spec's dtype.

    network: bytes a second, which is not measured.
    """
    with (
        TemporaryDirectory(prefix="proponent-plan-") as name,
        progress.stage("measuring", 5, "parts") as done,
    ):
        task, disk = _files(Path(name))
        bench, rates = _Bench(model, plan, job.built, spec, Path(name), task, disk), Rates()
        compacting = partial(_compacting, job, spec.seed, task)
        for part in (bench.moments, bench.gradients, bench.encoding, bench.later, compacting):
            rates |= part()
            done(1)
    return Speeds(rates, disk, network, task)


def _files(folder: Path) -> tuple[float, float]:
    """Seconds of a task's small file and mark, and bytes a second of large files written and read again."""
    marks = Marks(RunFolder(folder / "files"))

    def write(numbers: int) -> None:
        checksums: dict[Path, str] = {}
        file = marks.folder.features(0)
        write_tensors(file, {"numbers": torch.zeros(numbers)}, partial(checksums.setdefault, file))
        marks.write("features", checksums)

    write(FILE)
    large, small = _timed(partial(write, FILE)), _timed(partial(write, 1))
    return small, 2 * 4 * FILE / max(large - small, LEAST * large)


def _timed(work: Callable[[], object]) -> float:
    """Mean seconds of some calls: a median would leave out the turns that others take on the machine."""
    began, calls, spent = time.perf_counter(), 0, 0.0
    while spent < LONG and (calls < ROUNDS or spent < LONG_ENOUGH):
        work()
        calls, spent = calls + 1, time.perf_counter() - began
    return spent / calls


def _compacting(job: Job, seed: int, task: float) -> Rates:
    """Random rows of a full run made signs, and what turns one block of them; nothing is written.

    Either has a speed of its own, and only the rows grow with the corpus.  One task writes all shards, each
    in files of its own.
    """
    features = job.features
    if not features.compacted:
        return {}
    count = max(1, min(job.passages, job.shard_rows, FEATURES // features.dim))
    shard = Shard(0, Rows.stored(encode(torch.randn(count, features.dim))), torch.ones(count))
    seconds, turns = job.shards * task, tuple[Tensor, ...]()
    if features.truncated:
        seconds += features.blocks * _timed(partial(_turn, features))
        turns = (torch.randn(features.kept, features.width),) * features.blocks
    encoder = Encoder(Sketch(features.whitened, features.stored, seed), turns)
    encoder(shard)  # draws what is random
    seconds += job.passages / count * _timed(lambda: encoder(shard))
    return {COMPACTING: compact_stage(job).operations / seconds}


def _turn(features: FeatureShape) -> Tensor:
    """The matrix [r, w] of a block to the eigenvectors that are kept, for a random R and any factor."""
    some = torch.rand(features.width, features.width)
    block = HessianBlock(some + some.T, 1, 1.0)
    kept = EigenWhitening.of(block, torch.ones(features.width), Damping(1.0, 1.0), features.kept)
    return kept.after(some)


@dataclass(frozen=True)
class _Bench:
    """What is measured, and in which folder.  task, disk: as of ``Speeds``."""

    model: LanguageModel
    plan: LayerPlan
    job: Job
    spec: FeatureSpec
    folder: Path
    task: float
    disk: float

    @property
    def count(self) -> int:
        """Rows of a timed pass."""
        rows = max(2, BATCHES * self.job.batch_tokens // self.job.tokens)
        return min(rows, self.job.passages, self.job.shard_rows)

    def rows(self, count: int) -> list[tuple[int, ...]]:
        """Rows of random tokens."""
        known, draw = self.model.causal.get_input_embeddings().weight.shape[0], random.Random(0)
        return [tuple(draw.randrange(known) for _ in range(self.job.tokens)) for _ in range(count)]

    def rate(self, spent: Stage, seconds: float) -> float:
        """Operations a second of a stage, or bytes where it has none, without what its files take."""
        moved = spent.read + spent.written
        files = spent.tasks * self.task + (moved / self.disk if spent.operations else 0)
        return (spent.operations or moved) / max(seconds - files, LEAST * seconds)

    def of(self, job: Job) -> dict[str, Stage]:
        """The stages of what was measured."""
        return {stage.name: stage for stage in build_stages(replace(job, workers=1))}

    def moments(self) -> Rates:
        """Second moments of some rows, in float32; of Kronecker factors a sweep, and a folding."""
        if not self.job.sample:
            return {}
        rows = self.rows(min(self.count, self.job.sample))
        group = next(together(self.plan.matrices)) if self.job.kronecker else list(self.plan.matrices)
        sweep = Sweep(self.model, tuple(group), self.spec.batch_tokens)
        starts = [1] * len(rows)
        sample_moments(sweep, rows[:2], starts[:2])  # warms up
        if not self.job.kronecker:
            seconds = _timed(lambda: sample_moments(sweep, rows, starts))
            each = cost.moment_operations(self.job.model, self.job.tokens)
            return {"second moments": len(rows) * each / seconds}
        sums = KroneckerSums(group)
        seconds = _timed(lambda: sweep(rows, starts, [sums]))
        model, tokens = self.job.model, self.job.tokens
        each = cost.kronecker_operations(replace(model, sweeps=model.sweeps[:1]), tokens)
        each += cost.factor_operations(self._only(group), tokens) - cost.factor_operations(model, tokens)
        factors = sums.factors(len(rows))
        widest = max(group, key=lambda matrix: max(matrix.inputs, *matrix.outputs))
        projection = gaussian_projection(widest, self.plan.side, self.spec.seed)
        folding = _timed(lambda: factors[widest.name].fold(projection))
        folded = cost.root_operations(self._only([widest]), self.job.features)
        return {"second moments": len(rows) * each / seconds, "folding": folded / folding}

    def _only(self, matrices: Sequence[Matrix]) -> ModelShape:
        """The shape of a model of some matrices alone."""
        sides = tuple((matrix.inputs, sum(matrix.outputs)) for matrix in matrices)
        return replace(self.job.model, matrices=sides, modules=tuple(matrix.outputs for matrix in matrices))

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """Of the features of a pass, in the precision of the spec."""
        ones = {matrix.name: SecondMoments.ones(matrix) for matrix in self.plan.matrices}
        self.model.multiply_in(self.spec.dtype)
        folded = fold_moments(self.plan, ones, self.spec.seed)
        return FeatureExtractor(self.model, self.plan, folded, self.spec.batch_tokens)

    def gradients(self) -> Rates:
        """Features of some rows, a shard a round, with all that is written of them."""
        build = self._build("gradients", len(self.plan.blocks))
        rows, text = self.rows(self.count), "x" * self.job.text
        passages = [Passage(str(n), str(n), text) for n in range(len(rows))]
        shard = StagedShard(passages, rows, [1] * len(rows), self.job.tokens * len(rows))
        stage([build.marks], [shard])

        def one() -> None:
            build.folder.mark(features_name(0)).unlink(missing_ok=True)
            features([build], 0, self.spec.output, lambda units, tokens=0: None)

        self.extractor(rows[:1], [1], self.spec.output)  # warms up
        spent = self.of(replace(self.job, passages=len(rows)))["gradients"]
        rate = self.rate(spent, _timed(one))
        same = {"mean eigenvalues": self.job.features.size > 0, "balancing": self.job.kronecker}
        return {"gradients": rate} | {name: rate for name, there in same.items() if there}

    def encoding(self) -> Rates:
        """A shard of text, spelled from random tokens, cut into rows and written."""
        encoder, marks = self.model.encoder, Marks(RunFolder(self.folder / "encoding"))
        rows = self.rows(min(self.job.passages, self.job.shard_rows))
        examples = [Example(str(n), encoder.decode(list(row)) or "x", "") for n, row in enumerate(rows)]
        shards = list(cut_shards(examples, encoder, 2 * self.job.tokens))
        tokens, count = sum(shard.tokens for shard in shards), sum(len(shard.rows) for shard in shards)
        text = sum(len(example.text.encode()) for example in examples) // len(examples)
        seconds = _timed(lambda: stage([marks], cut_shards(examples, encoder, 2 * self.job.tokens)))
        tokens = max(2, round(tokens / max(1, count)))
        job = replace(self.job, passages=len(examples), tokens=tokens, text=text)
        return {"encoding": self.rate(self.of(job)["encoding"], seconds)}

    def later(self) -> Rates:
        """R, its factor and whitening of one block of random features, as many as are whitened together.

        A compact build with R taken for the identity has none of these.
        """
        if self.job.features.size:
            return {}
        width, own = self.job.features.width, replace(self.job.features, blocks=1)
        whole = replace(self.job, features=own)
        count = max(1, min(self.job.passages, 2 * self.job.shard_rows, FEATURES // width))
        build, job = self._build("later", 1), replace(whole, passages=count)
        for number, part in enumerate(torch.randn(count, width).split(job.shard_rows)):
            file, checksums = build.folder.features(number), dict[Path, str]()
            write_tensors(file, encode(part), partial(checksums.setdefault, file))
            build.marks.write(features_name(number), checksums, rows=len(part), not_finite=[])
        build.marks.write(PLAN, {}, shards=[{}] * job.shards)
        spent, rates = self.of(job), Rates()
        for title, tasks in later_stages(build).items():
            name = NAMES.get(title, title)
            seconds = sum(_timed(partial(task.run, build)) for task in tasks)
            rates[name] = self.rate(spent[name], seconds)
        return rates

    def _build(self, name: str, blocks: int) -> Build:
        folder = RunFolder(self.folder / name)
        damping = None if self.spec.hessian == "identity" else self.spec.damping
        size, dim = self.job.features.size, self.job.features.dim
        build = Build(folder, Marks(folder), blocks, damping, extractor=self.extractor)
        if not size:
            return build
        white, checksums = ScaledIdentity(1.0, dim // blocks).pack(), dict[Path, str]()
        for block in range(blocks):
            file = folder.whitening(block)
            write_tensors(file, white, partial(checksums.setdefault, file))
        build.marks.write(START, checksums)
        return replace(build, sketch=Sketch(dim, 8 * size, self.spec.seed))
