"""The token rows of a finished run, encoded again from the texts that it keeps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate, takewhile

from proponent.build.plan import StagedShard
from proponent.corpus.encoding import TextEncoder
from proponent.corpus.example import Chunk, Example
from proponent.errors import InputError
from proponent.index.run import Index, Passage

WITH_CORPUS = "give the corpus: proponent check RUN --repair --corpus CORPUS"


def cut_again(
    index: Index, encoder: TextEncoder, max_length: int, needed: Collection[int]
) -> Iterator[StagedShard]:
    """The shards of a run as they were staged; those that are not needed are empty.

    Raises InputError where rows of the run were not kept, so that what stood beside them is not known.
    """
    if index.summary["skipped"]["not_finite"]:
        raise InputError(f"{index.folder.name}: passages of it were not kept; {WITH_CORPUS}")
    firsts = accumulate(index.summary["shards"], initial=0)
    for number, (first, count) in enumerate(zip(firsts, index.summary["shards"], strict=False)):
        shard = StagedShard()
        if number in needed:
            rows = index.passages(range(first, first + count))
            chunks = _chunks(index, encoder, max_length, rows)
            for row, passage in rows.items():
                shard.add(Example(passage.source, "", ""), chunks[row])
        yield shard


def sampled_again(index: Index, encoder: TextEncoder, max_length: int) -> list[Chunk]:
    """The chunks that second moments were sampled on; InputError where one was not kept."""
    wanted = set(index.sample)
    rows = {row: passage for row, passage in enumerate(index.rows()) if passage.id in wanted}
    found = {chunk.id: chunk for chunk in _chunks(index, encoder, max_length, rows).values()}
    for id in index.sample:
        if id not in found:
            raise InputError(f"{index.folder.name}: passage '{id}' was not kept; {WITH_CORPUS}")
    return [found[id] for id in index.sample]


def _chunks(
    index: Index, encoder: TextEncoder, max_length: int, rows: Mapping[int, Passage]
) -> dict[int, Chunk]:
    """The chunk of each row: tokens are those of the whole passage, which was cut afterwards."""
    found: dict[int, Chunk] = {}
    for row, passage in rows.items():
        if row not in found:
            first, texts = _whole(index, row, passage)
            cut = encoder.chunks(Example(passage.source, "".join(texts), passage.id), max_length)
            found |= dict(enumerate(cut, first))
        chunk = found.get(row)
        if chunk is None or (chunk.id, chunk.text) != (passage.id, passage.text):
            raise InputError(f"{index.folder.name}: a part of '{passage.source}' was not kept; {WITH_CORPUS}")
    return {row: found[row] for row in rows}


def _whole(index: Index, row: int, passage: Passage) -> tuple[int, list[str]]:
    """The first row of a passage, and the texts of all its rows."""
    if passage.id == passage.source:
        return row, [passage.text]
    first = max(0, row - int(passage.id.rpartition("#")[2]))
    following = (index.passages([other])[other] for other in range(first, len(index)))
    return first, [part.text for part in takewhile(lambda part: part.source == passage.source, following)]
