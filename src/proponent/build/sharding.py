"""Cutting a corpus into shards: what a killed run may lose, and the window in which passages are sorted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from proponent.corpus.encoding import TextEncoder
from proponent.corpus.example import Chunk, Example
from proponent.index.run import Passage

SHARD_ROWS = 512
SHARD_TOKENS = 2**16

# A place in the corpus: the ordinals of a passage and of a chunk of it.
Place = tuple[int, int]
START: Place = (0, 0)


@dataclass
class Shard:
    """Consecutive chunks of the corpus, and what was passed over on the way.

    ends: whether each row is the last of its passage.
    """

    passages: list[Passage] = field(default_factory=list)
    rows: list[tuple[int, ...]] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)
    tokens: int = 0
    empty: int = 0
    too_short: int = 0
    resume_at: Place | None = None

    def is_full(self, chunk: Chunk) -> bool:
        """Whether the chunk has to go into the next shard."""
        return bool(self.rows) and (
            len(self.rows) == SHARD_ROWS or self.tokens + len(chunk.tokens) > SHARD_TOKENS
        )

    def add(self, example: Example, chunk: Chunk, end: bool) -> None:
        """Take a chunk of a passage; end: whether it is the passage's last."""
        self.ends.append(end)
        self.passages.append(Passage(chunk.id, example.id, chunk.text))
        self.rows.append(chunk.tokens)
        self.tokens += len(chunk.tokens)

    def counts(self) -> dict[str, Any]:
        """What the shard's marker says of it."""
        return {
            "tokens": self.tokens,
            "empty": self.empty,
            "too_short": self.too_short,
            "resume_at": self.resume_at,
        }


def cut_shards(
    corpus: Iterable[Example], encoder: TextEncoder, max_length: int, after: Place
) -> Iterator[Shard]:
    """Cut the corpus into shards, from a place on; the cuts do not depend on where it starts.

    A shard is closed by the first chunk that it cannot take, so it counts the passages skipped before it.
    """
    shard = Shard()
    for ordinal, example in enumerate(corpus):
        if ordinal < after[0]:
            continue
        empty = example.empty
        chunks = [] if empty else list(encoder.chunks(example, ordinal, max_length))
        shard.empty += empty
        shard.too_short += not empty and not chunks
        for chunk in chunks:
            if (ordinal, chunk.part) < after:
                continue
            if shard.is_full(chunk):
                shard.resume_at = (ordinal, chunk.part)
                yield shard
                shard = Shard()
            shard.add(example, chunk, chunk is chunks[-1])
    if shard.rows or shard.empty or shard.too_short:
        yield shard
