"""From a corpus to a finished run: the one pass of the model, resumable at every shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proponent.build.finish import finish_run, remove_leftovers
from proponent.build.sharding import START, Shard, cut_shards
from proponent.build.writing import (
    building,
    check_folder,
    has_raw_shard,
    raw_markers,
    sound_moments,
    start_run,
    write_raw_shard,
)
from proponent.corpus.corpus import Corpus
from proponent.corpus.encoding import TextEncoder
from proponent.corpus.example import Example
from proponent.corpus.repeats import digest_of, stem_of
from proponent.corpus.survey import Reading, Survey
from proponent.errors import InputError
from proponent.gradients.features import FeatureExtractor, extract, sample_moments
from proponent.gradients.layers import LayerPlan, plan_layers
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.moments import SecondMoments, pack_moments, unpack_moments
from proponent.gradients.optimizer import checkpoint_moments
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index, RunFolder
from proponent.progress import Progress, Silent


def build_index(
    corpus: Corpus,
    spec: FeatureSpec,
    path: str | Path,
    device: str | None = None,
    progress: Progress | None = None,
) -> Index:
    """Index a corpus: its influence features, R_train and the searchable index, in the folder ``path``.

    Killed at any moment and called again with the same arguments, it goes on where it was and ends with
    the same bytes; on a finished run it only checks that the arguments are the same.
    device: a torch device name, None for the best one there is.  progress: told of every stage.
    Raises InputError for bad text, a model that cannot be used, a run made with other settings, damaged
    or built by another process, and for a corpus that changes meanwhile.
    """
    return build_indexes(corpus, {Path(path): spec}, device, progress)[0]


def build_indexes(
    corpus: Corpus,
    specs: Mapping[Path, FeatureSpec],
    device: str | None = None,
    progress: Progress | None = None,
) -> list[Index]:
    """Several runs from one pass of the model, each the same as ``build_index`` would make it.

    specs: the spec of each folder; they may differ in dim, layer_groups, second_moment and damping.
    """
    told: Progress = progress or Silent()
    first = _shared_pass(list(specs.values()))
    told.say("reading the corpus")
    survey = corpus.survey(first.moment_sample, first.seed)
    model = load_model(first.model, device)
    if model.max_positions is not None and first.max_length > model.max_positions:
        raise InputError(
            f"max_length is {first.max_length} but the model reads at most {model.max_positions} tokens; "
            f"use --max-length {model.max_positions}"
        )
    plans = {path: plan_layers(model, spec.dim, spec.layer_groups) for path, spec in specs.items()}
    manifests = {path: _manifest(spec, survey, model, plans[path]) for path, spec in specs.items()}
    for path, manifest in manifests.items():
        check_folder(RunFolder(path), manifest)
    _refuse_namesakes(corpus, survey, model.encoder, first.max_length)
    with ExitStack() as locks:
        for path, manifest in manifests.items():
            locks.enter_context(building(RunFolder(path)))
            check_folder(RunFolder(path), manifest)
        _build(specs, plans, manifests, corpus, survey, model, told)
    return [Index(path) for path in specs]


def _build(
    specs: Mapping[Path, FeatureSpec],
    plans: Mapping[Path, LayerPlan],
    manifests: Mapping[Path, Mapping[str, Any]],
    corpus: Corpus,
    survey: Survey,
    model: LanguageModel,
    told: Progress,
) -> None:
    first = next(iter(specs.values()))
    # nothing is written before all of these are there: they show whether the input can be used
    moments = {
        path: _moments(RunFolder(path), spec, survey, model, plans[path], told)
        for path, spec in specs.items()
        if not RunFolder(path).done.is_file()
    }
    jobs = []
    model.multiply_in(first.dtype)  # second moments are made in float32: they weigh every coordinate
    for path, found in moments.items():
        start_run(RunFolder(path), manifests[path], pack_moments(found))
        extractor = FeatureExtractor(model, plans[path], found, first.seed, first.batch_tokens)
        jobs.append(_Job(RunFolder(path), extractor))
    if jobs:
        _write_features(jobs, corpus, survey, first, told)
    for job in jobs:
        finish_run(job.folder, len(job.extractor.plan.blocks), specs[job.folder.path].damping, told)
    for path in specs:
        remove_leftovers(RunFolder(path))


@dataclass(frozen=True)
class _Job:
    """A run that is not finished, and what makes its features."""

    folder: RunFolder
    extractor: FeatureExtractor


def _shared_pass(specs: list[FeatureSpec]) -> FeatureSpec:
    """The first spec, after a check that all can share one pass of the model."""
    own = ("dim", "layer_groups", "second_moment", "damping")
    for spec in specs[1:]:
        if replace(spec, **{name: getattr(specs[0], name) for name in own}) != specs[0]:
            raise InputError(f"specs of one pass may differ in {', '.join(own)} alone")
    return specs[0]


def _manifest(spec: FeatureSpec, survey: Survey, model: LanguageModel, plan: LayerPlan) -> dict[str, Any]:
    return {
        "spec": spec.to_dict(),
        "corpus": {"passages": survey.passages, "empty": survey.empty, "fingerprint": survey.fingerprint},
        "model": model.fingerprint(),
        "tokenizer": model.encoder.fingerprint(),
        "side": plan.side,
        "blocks": {
            block.name: ["+".join(matrix.modules) for matrix in block.matrices] for block in plan.blocks
        },
    }


def _moments(
    folder: RunFolder,
    spec: FeatureSpec,
    survey: Survey,
    model: LanguageModel,
    plan: LayerPlan,
    progress: Progress,
) -> dict[str, SecondMoments]:
    """The run's second moments by matrix name, made where they are not there yet."""
    if (packed := sound_moments(folder)) is not None:
        return unpack_moments(packed)
    progress.say(f"second moments: {spec.second_moment}")
    heads = [next(iter(model.encoder.chunks(e, 0, spec.max_length)), None) for e in survey.sample]
    if spec.second_moment == "none":
        return {matrix.name: SecondMoments.ones(matrix) for matrix in plan.matrices}
    if spec.second_moment != "sample":
        return checkpoint_moments(model, plan.matrices, spec.second_moment)
    rows = [chunk.tokens for chunk in heads if chunk is not None]
    if not rows:
        raise InputError("no passage of the corpus has a token to predict; passages need at least two tokens")
    return sample_moments(model, plan, rows, spec.batch_tokens)


def _refuse_namesakes(corpus: Corpus, survey: Survey, encoder: TextEncoder, max_length: int) -> None:
    """Refuse a passage that would be cut into pieces of which one is called as another passage is.

    Reads the corpus again, only where there are such names at all.
    """
    if not survey.namesakes:
        return
    places = {example.id: example.place for example in corpus if digest_of(example.id) in survey.namesakes}
    stems = {stem_of(id) for id in places}
    for ordinal, example in enumerate(corpus):
        pieces = encoder.chunks(example, ordinal, max_length) if example.id in stems else ()
        for chunk in pieces:
            if chunk.id != example.id and chunk.id in places:
                raise InputError(
                    f"{example.place}: passage {example.id!r} is longer than {max_length} tokens and would "
                    f"be cut into pieces, one of them {chunk.id!r}, which is the id of the passage at "
                    f"{places[chunk.id]}; give one of them another id"
                )


def _write_features(
    jobs: Sequence[_Job], corpus: Corpus, survey: Survey, spec: FeatureSpec, progress: Progress
) -> None:
    """The pass of the model over what of the corpus is not done yet in every job."""
    behind = min((raw_markers(job.folder) for job in jobs), key=len)
    after = tuple(behind[-1]["resume_at"] or ()) if behind else START
    if not after:
        return
    if behind:
        progress.say(f"going on after {after[0]:,} passages in {len(behind)} shards")
    encoder = jobs[0].extractor.model.encoder
    with progress.stage("gradients", survey.passages - after[0], "passages") as advance:
        passages = _unchanged(jobs, corpus, survey)
        for number, shard in enumerate(cut_shards(passages, encoder, spec.max_length, after), len(behind)):
            _write_shard(jobs, number, shard, spec.output, advance)


def _unchanged(jobs: Sequence[_Job], corpus: Corpus, survey: Survey) -> Iterator[Example]:
    """The corpus; InputError at its end, before the last shard is made, when it is not what was surveyed.

    The raw shards are removed then: they may hold passages that are not of the corpus the run names.
    """
    reading = Reading()
    for example in corpus:
        reading.add(example)
        yield example
    if reading.fingerprint() != survey.fingerprint:
        for job in jobs:
            remove_leftovers(job.folder)
        raise InputError(
            f"the corpus changed while it was indexed: it had {survey.passages:,} passages of fingerprint "
            f"{survey.fingerprint[:8]}, now {reading.passages:,} of {reading.fingerprint()[:8]}; "
            "keep it as it is and index it again, into a new folder"
        )


def _write_shard(
    jobs: Sequence[_Job], number: int, shard: Shard, output: str, advance: Callable[..., None]
) -> None:
    """One shard of every job, which is large: a function of its own, so that it is gone before the next.

    advance: told of the passages that end in this shard, and of those that were passed over.
    """
    advance(shard.empty + shard.too_short)
    jobs = [job for job in jobs if not has_raw_shard(job.folder, number)]
    if not jobs:
        advance(sum(shard.ends))
        return

    def done(rows: Sequence[int]) -> None:
        advance(sum(shard.ends[n] for n in rows), tokens=sum(len(shard.rows[n]) for n in rows))

    extractors = [job.extractor for job in jobs]
    features = extract(extractors, shard.rows, [1] * len(shard.rows), output, done)
    for job, part in zip(jobs, features, strict=True):
        write_raw_shard(job.folder, number, shard.passages, part, shard.counts())
