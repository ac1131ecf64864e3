"""From a corpus to a finished run: the one pass of the model, resumable at every shard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proponent.corpus.corpus import Corpus
from proponent.corpus.encoding import TextEncoder
from proponent.corpus.example import Chunk, Example
from proponent.corpus.survey import Survey
from proponent.errors import InputError
from proponent.gradients.features import FeatureExtractor, sample_moments
from proponent.gradients.layers import LayerPlan, plan_layers
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.moments import SecondMoments, pack_moments, unpack_moments
from proponent.gradients.optimizer import checkpoint_moments
from proponent.gradients.spec import FeatureSpec
from proponent.index.build import finish_run, raw_markers, remove_leftovers, start_run, write_raw_shard
from proponent.index.run import Index, Passage, RunFolder
from proponent.index.storage import read_tensors, write_tensors
from proponent.progress import Progress, Silent

# A shard is what a killed run may lose and the window inside which passages are sorted by length.
SHARD_ROWS = 512
SHARD_TOKENS = 2**16

Place = tuple[int, int]
START: Place = (0, 0)


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
    Raises InputError for bad text, a model that cannot be used, or a run made with other settings.
    """
    progress = progress or Silent()
    progress.say("reading the corpus")
    survey = corpus.survey(spec.moment_sample, spec.seed)
    model = load_model(spec.model, spec.dtype, device)
    if model.max_positions is not None and spec.max_length > model.max_positions:
        raise InputError(
            f"max_length is {spec.max_length} but the model reads at most {model.max_positions} tokens; "
            f"use --max-length {model.max_positions}"
        )
    plan = plan_layers(model, spec.dim, spec.layer_groups)
    folder = RunFolder(Path(path))
    start_run(folder, _manifest(spec, survey, model, plan))
    if not folder.done.is_file():
        extractor = _extractor(folder, spec, survey, model, plan, progress)
        _write_features(folder, corpus, survey, spec, extractor, progress)
        finish_run(folder, len(plan.blocks), spec.damping, progress)
    remove_leftovers(folder)
    return Index(path)


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


def _extractor(
    folder: RunFolder,
    spec: FeatureSpec,
    survey: Survey,
    model: LanguageModel,
    plan: LayerPlan,
    progress: Progress,
) -> FeatureExtractor:
    """The extractor with the run's second moments, which are made first where they are not there yet."""
    if not folder.moments.is_file():
        progress.say(f"second moments: {spec.second_moment}")
        write_tensors(folder.moments, pack_moments(_second_moments(spec, survey, model, plan)))
    moments = unpack_moments(read_tensors(folder.moments))
    return FeatureExtractor(model, plan, moments, spec.seed, spec.batch_tokens)


def _second_moments(
    spec: FeatureSpec, survey: Survey, model: LanguageModel, plan: LayerPlan
) -> dict[str, SecondMoments]:
    if spec.second_moment == "none":
        return {matrix.name: SecondMoments.ones(matrix) for matrix in plan.matrices}
    if spec.second_moment != "sample":
        return checkpoint_moments(model, plan.matrices, spec.second_moment)
    heads = [next(iter(model.encoder.chunks(e, 0, spec.max_length)), None) for e in survey.sample]
    rows = [chunk.tokens for chunk in heads if chunk is not None]
    if not rows:
        raise InputError("no passage of the corpus has a token to predict; passages need at least two tokens")
    return sample_moments(model, plan, rows, spec.batch_tokens)


@dataclass
class _Shard:
    """Consecutive chunks of the corpus, and what was passed over on the way."""

    passages: list[Passage] = field(default_factory=list)
    rows: list[tuple[int, ...]] = field(default_factory=list)
    tokens: int = 0
    empty: int = 0
    too_short: int = 0
    resume_at: Place | None = None

    def is_full(self, chunk: Chunk) -> bool:
        return bool(self.rows) and (
            len(self.rows) == SHARD_ROWS or self.tokens + len(chunk.tokens) > SHARD_TOKENS
        )

    def add(self, example: Example, chunk: Chunk) -> None:
        self.passages.append(Passage(chunk.id, example.id, chunk.text))
        self.rows.append(chunk.tokens)
        self.tokens += len(chunk.tokens)

    def counts(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "empty": self.empty,
            "too_short": self.too_short,
            "resume_at": self.resume_at,
        }


def _write_features(
    folder: RunFolder,
    corpus: Corpus,
    survey: Survey,
    spec: FeatureSpec,
    extractor: FeatureExtractor,
    progress: Progress,
) -> None:
    """The pass of the model over what of the corpus is not done yet."""
    markers = raw_markers(folder)
    done = sum(m["rows"] + m["empty"] + m["too_short"] + len(m["not_finite"]) for m in markers)
    after: Place | None = START
    if markers:
        after = tuple(markers[-1]["resume_at"]) if markers[-1]["resume_at"] else None
        progress.say(f"going on after {done:,} passages in {len(markers)} shards")
    with progress.stage("gradients", max(0, survey.passages - done), "passages") as advance:
        if after is None:
            return
        for number, shard in enumerate(_shards(corpus, extractor.model.encoder, spec, after), len(markers)):
            features = extractor(shard.rows, [1] * len(shard.rows), spec.output)
            write_raw_shard(folder, number, shard.passages, features, shard.counts())
            advance(len(shard.rows) + shard.empty + shard.too_short, tokens=shard.tokens)


def _shards(corpus: Corpus, encoder: TextEncoder, spec: FeatureSpec, after: Place) -> Iterator[_Shard]:
    """Cut the corpus into shards, from a place on; the cuts do not depend on where it starts.

    A shard is closed by the first chunk that it cannot take, so it counts the passages skipped before it.
    """
    shard = _Shard()
    for ordinal, example in enumerate(corpus):
        if ordinal < after[0]:
            continue
        empty = example.empty
        chunks = [] if empty else list(encoder.chunks(example, ordinal, spec.max_length))
        shard.empty += empty
        shard.too_short += not empty and not chunks
        for chunk in chunks:
            if (ordinal, chunk.part) < after:
                continue
            if shard.is_full(chunk):
                shard.resume_at = (ordinal, chunk.part)
                yield shard
                shard = _Shard()
            shard.add(example, chunk)
    if shard.rows or shard.empty or shard.too_short:
        yield shard
