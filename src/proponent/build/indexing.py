"""From a corpus to a finished run, resumable at every task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from proponent.build.compact import check_size, whitening_of_sample
from proponent.build.folder import UNCOVERED, building, check_folder, remove_leftovers, threads_of
from proponent.build.local import Here
from proponent.build.marks import Marks
from proponent.build.opening import open_build, with_model
from proponent.build.plan import PLAN, cut_shards, head_chunks, longest_chunk, refuse_namesakes, stage
from proponent.build.stages import Executor, counting, run_stages
from proponent.build.tasks import START, Build
from proponent.build.worker import Setup
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Chunk, Example
from proponent.corpus.survey import Reading, Survey, part_of_sample
from proponent.errors import InputError
from proponent.files import write_json
from proponent.gradients.balance import balanced, rows_seen
from proponent.gradients.coverage import uncovered
from proponent.gradients.features import FeatureExtractor, extract
from proponent.gradients.identity import versions
from proponent.gradients.kronecker import sample_kronecker, together
from proponent.gradients.layers import LayerPlan, plan_layers
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.moments import SecondMoments, fold_moments, pack_moments, sample_moments
from proponent.gradients.optimizer import checkpoint_moments
from proponent.gradients.projection import Projection, gaussian_projection, pack_projections
from proponent.gradients.spec import FeatureSpec
from proponent.gradients.sweep import Sweep
from proponent.index.codec import CODEC, SIGNS
from proponent.index.damping import check_damping
from proponent.index.manifest import FORMAT, MADE_WITH, SAMPLE
from proponent.index.run import Index, RunFolder, RunName
from proponent.index.storage import write_tensors
from proponent.progress import Progress, Silent
from proponent.threads import torch_threads

T = TypeVar("T")


def build_index(
    corpus: Corpus,
    spec: FeatureSpec,
    path: RunName,
    device: str | None = None,
    progress: Progress | None = None,
    trust_remote_code: bool = False,
    executor: Executor | None = None,
) -> Index:
    """Index a corpus into a folder, or at the URL of one: features, R_train and the searchable index.

    Killed at any moment and called again with the same arguments, it goes on where it was and ends with the
    same bytes, with as many threads as it began with; a finished run is compared with its checksums.
    device: a torch device, None for the best one.  trust_remote_code: run code that comes with the model.
    executor: what runs the tasks, None for this process.
    Raises InputError for bad text, a model that cannot be used, a run made with other settings, damaged
    or built by another process, and for a corpus that changes meanwhile.
    """
    return build_indexes(corpus, {path: spec}, device, progress, trust_remote_code, executor)[0]


def build_indexes(
    corpus: Corpus,
    specs: Mapping[RunName, FeatureSpec],
    device: str | None = None,
    progress: Progress | None = None,
    trust_remote_code: bool = False,
    executor: Executor | None = None,
) -> list[Index]:
    """Several runs from one pass of the model, each the same as ``build_index`` would make it.

    specs: the spec of each folder; they may differ in dim, layer_groups, second_moment, moment_sample,
    hessian, size and damping.
    """
    progress, executor = progress or Silent(), executor or Here()
    executor.check()
    there = [RunFolder(path).manifest.is_file() for path in specs]
    with ExitStack() as stack:
        builds = begin(corpus, specs, stack, device, progress, trust_remote_code, executor.threads)
        if builds:
            names, output = tuple(b.folder.kept.everywhere for b in builds), next(iter(specs.values())).output
            setup = Setup(names, output, torch.get_num_threads(), trust_remote_code)
            if not executor.here:  # this process needs the model no more
                builds = [replace(build, extractor=None) for build in builds]
            run_stages(builds, stack.enter_context(executor.workers(setup, builds, progress)), progress)
        for path in specs:
            remove_leftovers(RunFolder(path))
    indexes = [Index(path) for path in specs]
    for index, was_there in zip(indexes, there, strict=True):
        if was_there:  # it may have been damaged since it was made
            index.check()
    return indexes


def begin(
    corpus: Corpus,
    specs: Mapping[RunName, FeatureSpec],
    stack: ExitStack,
    device: str | None,
    progress: Progress,
    trust_remote_code: bool,
    threads: int,
) -> list[Build]:
    """The runs that are not finished, locked and ready for their tasks, until the stack is closed.

    Until then torch has as many threads as they were begun with, or else as are given.
    """
    first = _shared_pass(list(specs.values()))
    for path in specs:  # before what takes long: the corpus is read, the model loaded
        stack.enter_context(building(RunFolder(path)))
    progress.say("reading the corpus")
    survey = corpus.survey(max(spec.moment_sample for spec in specs.values()), first.seed)
    progress.say(f"{survey.passages:,} passages, the first is '{next(iter(corpus)).id}'")
    if note := corpus.text_note(survey.passages):
        progress.say(note)
    model = load_model(first.model, device, trust_remote_code)
    length = longest_chunk(first, model, progress)
    ours = {path: replace(spec, max_length=length) for path, spec in specs.items()}
    plans = {path: plan_layers(model, spec.dim, spec.layer_groups) for path, spec in ours.items()}
    manifests = {path: _manifest(survey, model, ours[path], plan) for path, plan in plans.items()}
    samples = {
        number: head_chunks(part_of_sample(survey.sample, number, first.seed), model, length)
        for number in {spec.moment_sample for spec in specs.values()}
    }
    work = Work(corpus, survey, model, ours, manifests, samples, progress)
    found = {path: check_folder(RunFolder(path), manifest) for path, manifest in manifests.items()}
    refuse_namesakes(corpus, survey, model.encoder, length)
    begun = threads_of({RunFolder(path): made for path, made in found.items() if made})
    stack.enter_context(torch_threads(begun or threads))
    return work.start({path: plan for path, plan in plans.items() if not RunFolder(path).done.is_file()})


def _shared_pass(specs: list[FeatureSpec]) -> FeatureSpec:
    """The first spec, after a check of all, and that they can share one pass of the model."""
    own = ("dim", "layer_groups", "second_moment", "moment_sample", "hessian", "damping", "size")
    for spec in specs:
        check_size(spec)
        check_damping(spec.damping)
        if replace(spec, **{name: getattr(specs[0], name) for name in own}) != specs[0]:
            raise InputError(f"specs of one pass may differ in {', '.join(own)} alone")
    return specs[0]


def _manifest(survey: Survey, model: LanguageModel, spec: FeatureSpec, plan: LayerPlan) -> dict[str, Any]:
    """What decides a run's bytes, but for versions and threads; the model as it was loaded."""
    blocks = {block.name: ["+".join(matrix.modules) for matrix in block.matrices] for block in plan.blocks}
    return {
        "format": FORMAT,
        "spec": spec.to_dict(),
        "corpus": {"passages": survey.passages, "empty": survey.empty, "fingerprint": survey.fingerprint},
        "model": model.identity,
        "tokenizer": model.encoder.fingerprint(),
        "codec": SIGNS if spec.size else CODEC,
        "side": plan.side,
        "blocks": blocks,
    }


@dataclass(frozen=True)
class Work:
    """What the runs of one pass are made of; samples: first chunks of passages, by their wanted number."""

    corpus: Corpus
    survey: Survey
    model: LanguageModel
    specs: Mapping[RunName, FeatureSpec]
    manifests: Mapping[RunName, Mapping[str, Any]]
    samples: Mapping[int, Sequence[Chunk]]
    progress: Progress

    @property
    def first(self) -> FeatureSpec:
        """The spec of the first run, for what all have in common."""
        return next(iter(self.specs.values()))

    def start(self, plans: Mapping[RunName, LayerPlan]) -> list[Build]:
        """The runs of these plans, begun and with their shards planned."""
        if not plans:
            return []
        for path, plan in plans.items():
            if line := plan.rounding(self.specs[path].dim):
                self.progress.say(line)
        builds = self._begun(plans)
        if missing := [build.marks for build in builds if not build.marks.done(PLAN)]:
            encoder, length = self.model.encoder, self.first.max_length
            stage(missing, cut_shards(self._unchanged(missing), encoder, length))
        return builds

    def _begun(self, plans: Mapping[RunName, LayerPlan]) -> list[Build]:
        """Write settings, second moments and projections of each run, what of them is not there yet.

        Nothing is written before all of these could be made: they show whether the input can be used.
        """
        marks = {path: Marks(RunFolder(path)) for path in plans}
        missing = [path for path in plans if not marks[path].done(START)]
        made = {path: self.first_files(path, plans[path], RunFolder(path)) for path in missing}
        left = self._uncovered(next(iter(plans.values()))) if made else {}
        for path, packed in made.items():
            folder, checksums = RunFolder(path), dict[Path, str]()
            if not folder.manifest.is_file():
                sample = [chunk.id for chunk in self.samples[self.specs[path].moment_sample]]
                made_with = {"versions": versions(), "threads": torch.get_num_threads(), SAMPLE: sample}
                write_json(folder.manifest, {**self.manifests[path], MADE_WITH: made_with, UNCOVERED: left})
            for file, tensors in packed.items():
                write_tensors(file, tensors, partial(checksums.setdefault, file))
            marks[path].write(START, checksums)
        return [with_model(open_build(RunFolder(path)), self.model) for path in plans]

    def first_files(self, path: RunName, plan: LayerPlan, folder: RunFolder) -> dict[Path, dict[str, Tensor]]:
        """What a run's features need, by the files of a folder: also the whitening of a compact run.

        path: of the run, whose spec it is.
        """
        spec, blocks = self.specs[path], len(plan.blocks)
        self.model.multiply_in("float32")  # second moments weigh everything
        moments, folded = self._fold(path, plan)
        packed = {folder.moments: pack_moments(moments), folder.sides: pack_projections(folded)}
        self.model.multiply_in(spec.dtype)
        if spec.size:  # its features are whitened as they are made
            whitening = whitening_of_sample(self._features(plan, folded, spec), blocks)
            packed |= {folder.whitening(number): block.pack() for number, block in enumerate(whitening)}
        return packed

    def _fold(self, path: RunName, plan: LayerPlan) -> tuple[dict[str, SecondMoments], dict[str, Projection]]:
        """A run's rank-one second moments, and its projections with the correction folded in, by matrix."""
        spec, matrices = self.specs[path], plan.matrices
        if spec.second_moment == "kronecker":
            sweeps = len(list(together(matrices)))
            projection = partial(gaussian_projection, side=plan.side, seed=spec.seed)
            make = partial(sample_kronecker, projection=projection)
            moments, folded = self._sampled(make, spec, plan, sweeps)
            return moments, balanced(plan, folded, self._features(plan, folded, spec))
        if spec.second_moment == "none":
            moments = {matrix.name: SecondMoments.ones(matrix) for matrix in matrices}
        elif spec.second_moment == "sample":
            moments = self._sampled(sample_moments, spec, plan)
        else:
            self.progress.say(f"second moments: {spec.second_moment}")
            moments = checkpoint_moments(self.model, matrices, spec.second_moment)
        return moments, fold_moments(plan, moments, self.first.seed)

    def _features(self, plan: LayerPlan, folded: Mapping[str, Projection], spec: FeatureSpec) -> Tensor:
        """Features φ [n, d] of the sampled passages, or of as many of them as memory allows."""
        seen = self.samples[spec.moment_sample][: rows_seen(plan.dim)]
        extractor = FeatureExtractor(self.model, plan, folded, spec.batch_tokens)
        with counting(self.progress, "features of the sample", seen) as (rows, starts, done):
            return extract([extractor], rows, starts, spec.output, done)[0]

    def _sampled(self, make: Callable[..., T], spec: FeatureSpec, plan: LayerPlan, sweeps: int = 1) -> T:
        """What is made of the gradients of a sample of passages, in so many sweeps."""
        sample = self.samples[spec.moment_sample]
        sweep = Sweep(self.model, plan.matrices, spec.batch_tokens)
        began = time.monotonic()
        with counting(self.progress, "second moments", sample, sweeps) as (rows, starts, done):
            made = make(sweep, rows=rows, starts=starts, done=done)
        minutes = (time.monotonic() - began) / len(rows) / sweeps * self.survey.passages / 60
        self.progress.say(f"the gradients of all passages take about {minutes:,.1f} minutes at this rate")
        return made

    def _uncovered(self, plan: LayerPlan) -> dict[str, float]:
        """Weights with a gradient that the method leaves out, with their share of the squared gradient."""
        if left := uncovered(self.model, plan.matrices, self.samples[self.first.moment_sample][0].tokens):
            name, share = next(iter(left.items()))
            self.progress.say(
                f"{len(left)} weights with {sum(left.values()):.1%} of the squared gradient are no linear "
                f"layers and are left out, first {name} with {share:.1%}; 'proponent info' lists them"
            )
        return left

    def _unchanged(self, marks: Sequence[Marks]) -> Iterator[Example]:
        """The corpus; at its end, if it is not what was surveyed, removes what was staged: InputError."""
        reading, survey = Reading(), self.survey
        with self.progress.stage("encoding", survey.passages, "passages") as advance:
            for example in self.corpus:
                reading.add(example)
                yield example
                advance(1)
        if reading.fingerprint() != survey.fingerprint:
            for mark in marks:
                remove_leftovers(mark.folder)
            raise InputError(
                f"the corpus changed while it was indexed: it had {survey.passages:,} passages of "
                f"fingerprint {survey.fingerprint[:8]}, now {reading.passages:,} of "
                f"{reading.fingerprint()[:8]}; keep it as it is and index it again, into a new folder"
            )
