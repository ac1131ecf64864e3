"""The queries of a trace: prompts with the targets whose prediction is traced."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, overload

from proponent.corpus.example import Query
from proponent.corpus.fields import id_of, ids_of, require_unicode, strings_of, text_of
from proponent.corpus.names import is_passage_column, renamed
from proponent.corpus.records import Record, Source, kind
from proponent.corpus.repeats import repeated_id
from proponent.corpus.sources import read_records
from proponent.errors import InputError

# Fields of the prompt, of the target, and of the id (the first that a line has).
SCHEMAS = (
    ("prompt", "target", ("id", "query_id", "fact_id", "example_id")),
    ("inputs_plaintext", "targets_plaintext", ("example_id", "fact_id")),  # result files
    ("prompt0", "entity1", ("fact_id", "id")),  # facts
)
WORDS = ("query_set", "fact_id", "relation")  # fields that are a string wherever they are


@dataclass(frozen=True)
class Queries(Sequence[Query]):
    """A sequence of queries with unique ids, each with a prompt and a target that are not empty."""

    queries: tuple[Query, ...]

    def __post_init__(self) -> None:
        places: dict[str, str] = {}
        for query in self.queries:
            require_both_sides(query)
            if query.id in places:
                raise repeated_id(query.id, places[query.id], query.place, "each query needs its own id")
            places[query.id] = query.place

    @classmethod
    def read(
        cls, path: str | os.PathLike[str], limit: int | None = None, id_field: str | None = None
    ) -> Queries:
        """Read prompt/target/id lines, the paper's facts, or its result files (see `SCHEMAS`).

        path: anything a corpus can be read from.  limit: only the first so many.
        id_field: where the id is; by default the schema's, else the file name and line.
        """
        if limit is not None and limit < 1:
            raise InputError(f"a limit of {limit} queries leaves none; give 1 or more")
        records = islice(read_records(path), limit)
        read = cls(tuple(query_of(source, record, id_field) for source, record in records))
        if not read:
            raise InputError(f"{os.fspath(path)}: there are no queries in it")
        return read

    @classmethod
    def of(cls, asked: str | Iterable[Query | tuple[str, str]], target: str | None = None) -> Queries:
        """The one query of a prompt and its target, or those of queries and (prompt, target) pairs.

        A pair's id is its position, from 0.  Queries stay as they are.  Raises InputError for other values.
        """
        if isinstance(asked, Queries):
            return asked
        if target is not None:
            return cls((Query("query", asked, target),))  # type: ignore[arg-type]  # checked as any query
        return cls(tuple(_query_from(value, number) for number, value in enumerate(asked)))

    def subset(self, ids: Iterable[str]) -> Queries:
        """The queries of these ids, in the order they have here; raises InputError for an unknown id."""
        wanted = set(ids)
        kept = tuple(query for query in self.queries if query.id in wanted)
        unknown = sorted(wanted - {query.id for query in kept})
        if unknown:
            raise InputError(f"no query has the id {unknown[0]!r} ({len(unknown)} such ids)")
        return Queries(kept)

    def __len__(self) -> int:
        return len(self.queries)

    @overload
    def __getitem__(self, index: int) -> Query: ...
    @overload
    def __getitem__(self, index: slice) -> Queries: ...
    def __getitem__(self, index: int | slice) -> Query | Queries:
        return Queries(self.queries[index]) if isinstance(index, slice) else self.queries[index]


def require_both_sides(query: Query) -> None:
    """Raise InputError where the prompt or the target is no text, empty or nothing but whitespace."""
    for side, text in (("prompt", query.prompt), ("target", query.target)):
        if not isinstance(text, str):
            raise InputError(f"{query.place}: the {side} must be a string, not {kind(text)}")
        require_unicode(text, query.place, f"the {side}")
        if not text.strip():
            raise InputError(f"{query.place}: the {side} is empty; a query needs a prompt and a target")


def _query_from(value: object, number: int) -> Query:
    if isinstance(value, Query):
        return replace(value, fields=_of_query(value.fields))
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        what = "a file is read with Queries.read(path)" if isinstance(value, str) else "see Queries.of"
        raise InputError(f"query {number} is {kind(value)}; give a Query or a pair (prompt, target); {what}")
    return Query(str(number), value[0], value[1], place=f"query {number}")


def query_of(source: Source, record: Record, id_field: str | None = None) -> Query:
    """The query that a record holds in one of `SCHEMAS`; the passages of a result file are left out.

    Its fields have the newer names (see `corpus.names`).
    Raises InputError naming file, line and field for a field that is missing or not of its type.
    """
    record = record._replace(fields=renamed(record.fields))
    present = record.fields.keys()
    schemas = [schema for schema in SCHEMAS if present >= set(schema[:2])]
    if not schemas:
        known = ", ".join(f"{prompt}/{target}" for prompt, target, _ in SCHEMAS)
        found = ", ".join(record.fields) or "none"
        raise InputError(f"{record.place}: no prompt and target ({known}); the fields are: {found}")
    prompt, target, id_fields = schemas[0]
    field = id_field or next((name for name in id_fields if name in record.fields), None)
    _check_fields(record)
    return Query(
        id=id_of(record, field) if field else f"{source.name}:{record.number}",
        prompt=text_of(record, prompt),
        target=text_of(record, target),
        fields=_of_query(record.fields),
        place=record.place,
    )


def _of_query(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields without the columns of an earlier trace's passages: large, and not of the query."""
    return {name: value for name, value in fields.items() if not is_passage_column(name)}


def _check_fields(record: Record) -> None:
    """Raise InputError where a field that is used, or written to result files, is not what it should be."""
    ids_of(record, "trex_sentences")
    strings_of(record, "entity1_alias")
    for name in WORDS:
        value = record.fields.get(name)
        if value is not None and type(value) not in (str, int):
            raise InputError(f"{record.place}: the field {name!r} must be a string, not {kind(value)}")
        require_unicode(value, record.place, f"the field {name!r}")
