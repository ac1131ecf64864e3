"""Making a damaged ``done.json`` again, which what can still be read of it proves to be the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from proponent.build.plan import cut_shards
from proponent.corpus.corpus import Corpus
from proponent.corpus.encoding import TextEncoder
from proponent.corpus.example import Example
from proponent.errors import InputError
from proponent.files import (
    called,
    checksum,
    content_checksum,
    parse_json,
    read_json,
    write_checksummed_json,
)
from proponent.gradients.model import LanguageModel
from proponent.index.manifest import ANEW, COPY
from proponent.index.run import PASSAGE, RunFolder
from proponent.index.storage import read_table

ENTRY = re.compile(r'"([\w./-]+)": "([0-9a-f]{32})"')


def totals_again(folder: RunFolder, corpus: Corpus | None, load: Callable[[str], LanguageModel]) -> None:
    """Write ``done.json`` again from ``run.json``, the texts of the run and its files.

    corpus: what the run was made of; needed where passages of it were not kept.
    Raises InputError where what is made is not proven to be what was there.
    """
    manifest = read_json(folder.manifest)
    left = folder.done.read_text(encoding="utf-8", errors="replace")
    encoder, tables = load(manifest["spec"]["model"]).encoder, _tables(folder)
    if corpus is None:
        counts = _counts(manifest, tables, encoder)
    else:
        counts = _planned(manifest, tables, encoder, corpus)
    for checksums in _checksums(folder, left):
        for copy in ({COPY: manifest}, {}):  # runs made before there was a copy have none
            totals = {**counts, "checksums": checksums, **copy}
            if content_checksum(totals) in left or _says(left, totals):
                write_checksummed_json(folder.done, totals)
                return
    more = "" if corpus else "; with --corpus CORPUS it may be"
    raise InputError(
        f"{called(folder.done)}: damaged, and not proven by the files of the run{more}; or {ANEW}"
    )


def _tables(folder: RunFolder) -> list[list[dict[str, str]]]:
    """Ids, sources and texts of the rows of each shard."""
    count = len(folder.kept.glob("examples/*.parquet"))
    return [read_table(folder.examples(shard), PASSAGE).to_pylist() for shard in range(count)]


def _counts(
    manifest: Mapping[str, Any], tables: list[list[dict[str, str]]], encoder: TextEncoder
) -> dict[str, Any]:
    """Totals from the texts of a run of which every passage was kept that has a token to predict."""
    tokens = sources = 0
    rows = (row for table in tables for row in table)
    for source, parts in groupby(rows, key=itemgetter("source")):
        text = "".join(part["text"] for part in parts)
        chunks = encoder.chunks(Example(source, text, source), manifest["spec"]["max_length"])
        tokens += sum(len(chunk.tokens) for chunk in chunks)
        sources += 1
    read, empty = manifest["corpus"]["passages"], manifest["corpus"]["empty"]
    return _totals(tables, tokens, empty, read - empty - sources, [])


def _planned(
    manifest: Mapping[str, Any], tables: list[list[dict[str, str]]], encoder: TextEncoder, corpus: Corpus
) -> dict[str, Any]:
    """Totals from the corpus; what was planned and is no row had no finite gradient."""
    shards = list(cut_shards(corpus, encoder, manifest["spec"]["max_length"]))
    kept = {row["id"] for table in tables for row in table}
    dropped = [passage.id for shard in shards for passage in shard.passages if passage.id not in kept]
    tokens, empty, short = (
        sum(shard.counts()[name] for shard in shards) for name in ("tokens", "empty", "too_short")
    )
    return _totals(tables, tokens, empty, short, dropped)


def _totals(
    tables: list[list[dict[str, str]]], tokens: int, empty: int, too_short: int, not_finite: list[str]
) -> dict[str, Any]:
    rows = [len(table) for table in tables]
    skipped = {"empty": empty, "too_short": too_short, "not_finite": not_finite}
    return {"rows": sum(rows), "tokens": tokens, "skipped": skipped, "shards": rows}


def _checksums(folder: RunFolder, left: str) -> Iterator[dict[str, str]]:
    """Checksums by name: those of the files; where files are damaged too, those that can still be read."""
    files = [folder.manifest, folder.moments, folder.sides]
    for place in ("examples", "index", "hessian", "whitening"):
        files += folder.kept.glob(f"{place}/[0-9]*")
    there = filter(Path.is_file, sorted(files))
    yield {path.relative_to(folder.path).as_posix(): checksum(path) for path in there}
    read = {name: found for name, found in ENTRY.findall(left) if "." in name}
    yield {name: read[name] for name in sorted(read)}


def _says(left: str, totals: Mapping[str, Any]) -> bool:
    """Whether what is left says the same, so that but its checksum of itself is damaged."""
    with suppress(ValueError):
        found = parse_json(left)
        return isinstance(found, dict) and {**found, "checksum": ""} == {**totals, "checksum": ""}
    return False
