"""Planning: the corpus is read and encoded once, and cut into shards that can be computed in any order."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa

from proponent.build.marks import Marks
from proponent.corpus.corpus import Corpus
from proponent.corpus.encoding import TextEncoder
from proponent.corpus.example import Chunk, Example
from proponent.corpus.repeats import digest_of, stem_of
from proponent.corpus.survey import Survey
from proponent.errors import InputError
from proponent.gradients.model import LanguageModel
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import PASSAGE, Passage
from proponent.index.storage import TOKENS, read_table, text_column, token_column, write_table
from proponent.progress import Progress

SHARD_ROWS = 512
SHARD_TOKENS = 2**16
PLAN = "plan"
MAX_LENGTH = 512  # tokens of a chunk where neither the spec nor the model says less
STAGED = {**PASSAGE, "tokens": TOKENS, "start": TOKENS}  # columns of a shard's rows


@dataclass
class StagedShard:
    """Consecutive chunks of the corpus as token rows, and what was passed over on the way.

    passages: what the run keeps of each row.  rows: token ids.  starts: each row's first scored token.
    empty, too_short: passages without text, or with nothing to predict.
    """

    passages: list[Passage] = field(default_factory=list)
    rows: list[tuple[int, ...]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    tokens: int = 0
    empty: int = 0
    too_short: int = 0

    def is_full(self, chunk: Chunk) -> bool:
        """Whether the chunk has to go into the next shard."""
        too_long = self.tokens + len(chunk.tokens) > SHARD_TOKENS
        return bool(self.rows) and (too_long or len(self.rows) == SHARD_ROWS)

    def add(self, example: Example, chunk: Chunk) -> None:
        """Take a chunk of a passage."""
        self.passages.append(Passage(chunk.id, example.id, chunk.text))
        self.rows.append(chunk.tokens)
        self.starts.append(chunk.start)
        self.tokens += len(chunk.tokens)

    def counts(self) -> dict[str, int]:
        """What the plan says of it."""
        names = ("tokens", "empty", "too_short")
        return {"rows": len(self.rows), **{name: getattr(self, name) for name in names}}


def cut_shards(corpus: Iterable[Example], encoder: TextEncoder, max_length: int) -> Iterator[StagedShard]:
    """Cut the corpus into shards of at most ``SHARD_ROWS`` rows and ``SHARD_TOKENS`` tokens.

    A shard is closed by the first chunk that it cannot take, so it counts the passages skipped before that.
    """
    shard = StagedShard()
    for example in corpus:
        empty = example.empty
        chunks = [] if empty else list(encoder.chunks(example, max_length))
        shard.empty += empty
        shard.too_short += not empty and not chunks
        for chunk in chunks:
            if shard.is_full(chunk):
                yield shard
                shard = StagedShard()
            shard.add(example, chunk)
    if shard.rows or shard.empty or shard.too_short:
        yield shard


def stage(marks: Sequence[Marks], shards: Iterable[StagedShard], only: Container[int] | None = None) -> None:
    """Write every shard's rows and, last, the plan into each of some runs.

    only: numbers of the shards whose rows are needed, None for all.
    """
    counts: list[dict[str, int]] = []
    checksums: list[dict[Path, str]] = [{} for _ in marks]
    for number, shard in enumerate(shards):
        counts.append(shard.counts())
        if only is not None and number not in only:
            continue
        for own, found in zip(marks, checksums, strict=True):
            file = own.folder.staged(number)
            write_table(file, _columns(shard), partial(found.setdefault, file))
    for own, found in zip(marks, checksums, strict=True):
        own.write(PLAN, found, shards=counts)


def read_staged(marks: Marks, shard: int) -> StagedShard:
    """The rows of a shard as the planning pass wrote them; InputError where they were damaged since."""
    table = read_table(marks.sound(PLAN, marks.folder.staged(shard)), STAGED)
    passages = [Passage(**row) for row in table.select(list(PASSAGE)).to_pylist()]
    tokens = [tuple(row) for row in table["tokens"].to_pylist()]
    starts = [start for (start,) in table["start"].to_pylist()]
    counts = marks.read(PLAN)["shards"][shard]
    return StagedShard(passages, tokens, starts, counts["tokens"], counts["empty"], counts["too_short"])


def passage_columns(passages: Sequence[Passage]) -> dict[str, pa.Array]:
    """Passages as the columns of a table."""
    return {name: text_column([getattr(passage, name) for passage in passages]) for name in PASSAGE}


def _columns(shard: StagedShard) -> dict[str, pa.Array]:
    starts = token_column([(start,) for start in shard.starts])
    return {**passage_columns(shard.passages), "tokens": token_column(shard.rows), "start": starts}


def longest_chunk(spec: FeatureSpec, model: LanguageModel, progress: Progress) -> int:
    """Tokens of the longest chunk: the spec's, or as many as the model reads, up to ``MAX_LENGTH``."""
    most, given = model.max_positions, spec.max_length
    if most is None or (given or MAX_LENGTH) <= most:
        return given or MAX_LENGTH
    if given:
        raise InputError(
            f"max_length is {given} but the model reads at most {most} tokens; use --max-length {most}"
        )
    progress.say(f"passages are cut at {most} tokens, the most that the model reads")
    return most


def refuse_namesakes(corpus: Corpus, survey: Survey, encoder: TextEncoder, max_length: int) -> None:
    """Refuse a passage that would be cut into chunks of which one has the id of another passage.

    Reads the corpus again where the survey found such ids.
    """
    if not survey.namesakes:
        return
    places = {example.id: example.place for example in corpus if digest_of(example.id) in survey.namesakes}
    stems = {stem_of(id) for id in places}
    for example in corpus:
        chunks = encoder.chunks(example, max_length) if example.id in stems else ()
        for chunk in chunks:
            if chunk.id != example.id and chunk.id in places:
                raise InputError(
                    f"{example.place}: passage {example.id!r} is longer than {max_length} tokens and would "
                    f"be cut into chunks, one of them {chunk.id!r}, which is the id of the passage at "
                    f"{places[chunk.id]}; give one of them another id"
                )


def head_chunks(sample: Iterable[Example], model: LanguageModel, max_length: int) -> list[Chunk]:
    """The first chunk of each sampled passage that has one."""
    heads = (next(model.encoder.chunks(example, max_length), None) for example in sample)
    found = [chunk for chunk in heads if chunk is not None]
    if not found:
        raise InputError("no passage of the corpus has a token to predict; passages need at least two tokens")
    return found
