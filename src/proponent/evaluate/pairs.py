"""Gold as pairs: a file whose lines name a query and a passage that is right for it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from proponent.corpus.fields import id_of
from proponent.corpus.records import Record, kind
from proponent.corpus.sources import read_records
from proponent.errors import InputError

# Columns by the names that they have in such files; the first of each that a line has is read.
QUERY = ("query_id", "example_id", "fact_id", "query-id", "qid")
PASSAGE = ("passage_id", "sentence_id", "doc_id", "corpus-id", "docid")
LABEL = ("label", "relevance", "score")


def are_pairs(fields: Iterable[str]) -> bool:
    """Whether a record with these fields is a pair."""
    names = set(fields)
    return not names.isdisjoint(QUERY) and not names.isdisjoint(PASSAGE)


def read_pairs(
    path: str | os.PathLike[str], asked: Collection[str] | None = None
) -> dict[str, frozenset[str]]:
    """The gold passages' ids of each query of a pairs file (JSON lines, CSV, TSV or Parquet, as a stream).

    A line with a label is gold where that is a number above 0 (graded relevance), ``true`` or ``yes``; a
    query that only has labels of 0 is there, with no passage.  A pair that is repeated counts once.
    asked: only the queries of these ids; None: all.
    Raises InputError, naming file and line, for a line without its two ids and for a label that is none.
    """
    found: dict[str, set[str]] = {}
    for _, record in read_records(path):
        query, passage = _id(record, QUERY, "query"), _id(record, PASSAGE, "passage")
        right = _is_gold(record)  # read for every line, so that a bad one is found whoever asks
        if asked is None or query in asked:
            passages = found.setdefault(query, set())
            passages.update({passage} if right else ())
    return {query: frozenset(passages) for query, passages in found.items()}


def _id(record: Record, names: Collection[str], what: str) -> str:
    name = next((name for name in names if name in record.fields), None)
    if name is None:
        found = ", ".join(record.fields) or "none"
        raise InputError(f"{record.place}: no id of a {what} ({' or '.join(names)}); the fields are: {found}")
    return id_of(record, name)


def _is_gold(record: Record) -> bool:
    name = next((name for name in LABEL if name in record.fields), None)
    return name is None or _truth(record.fields, name, record.place)


def _truth(fields: Mapping[str, Any], name: str, place: str) -> bool:
    """Whether a label says that the passage is gold; in tables all labels are text."""
    value = fields[name]
    text = str(value).strip().lower()
    if text in ("true", "yes", "false", "no"):
        return text in ("true", "yes")
    try:
        if isinstance(value, str | int | float) and (number := float(text)) == number:
            return number > 0
    except ValueError:
        pass
    shown = f"'{value}'" if isinstance(value, str) else kind(value)
    wanted = "give a number, above 0 for gold, or true or false"
    raise InputError(f"{place}: the {name!r} of a pair is {shown}; {wanted}")
