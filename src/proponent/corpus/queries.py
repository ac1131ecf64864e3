"""The queries of a trace: prompts with the targets whose prediction is traced."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import overload

from proponent.corpus.example import Query
from proponent.corpus.fields import id_of, text_of
from proponent.corpus.records import Record, Source
from proponent.corpus.repeats import repeated_id
from proponent.corpus.sources import read_records
from proponent.errors import InputError

# Where a line holds its prompt, its target and (the first there is) its id.
SCHEMAS = (
    ("prompt", "target", ("id", "query_id", "fact_id", "example_id")),
    ("inputs_plaintext", "targets_plaintext", ("example_id", "fact_id")),  # result files
    ("prompt0", "entity1", ("fact_id", "id")),  # facts
)
# What a result file says of an earlier trace: large, and not of the query.
RESULT_FIELDS = frozenset(
    {"proponents", "proponent_ids", "proponent_sources", "proponent_scores", "proponent_correct"}
    | {"opponents", "opponent_ids", "opponent_sources", "opponent_scores"}
)


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

        path: anything a corpus can be read from.  limit: only the first so many.  id_field: where the id
        is; by default the schema's, else the file name and line.  The whole line is kept in
        `Query.fields`, except what a result file says of an earlier trace.
        """
        if limit is not None and limit < 1:
            raise InputError(f"a limit of {limit} queries leaves none; give 1 or more")
        read = cls(
            tuple(_query_of(source, record, id_field) for source, record in islice(read_records(path), limit))
        )
        if not read:
            raise InputError(f"{os.fspath(path)}: there are no queries in it")
        return read

    @classmethod
    def of(cls, prompt: str, target: str) -> Queries:
        """The one query of a prompt and a target."""
        return cls((Query("query", prompt, target),))

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

    def __iter__(self) -> Iterator[Query]:
        return iter(self.queries)

    @overload
    def __getitem__(self, index: int) -> Query: ...
    @overload
    def __getitem__(self, index: slice) -> Queries: ...
    def __getitem__(self, index: int | slice) -> Query | Queries:
        if isinstance(index, slice):
            return Queries(self.queries[index])
        return self.queries[index]


def require_both_sides(query: Query) -> None:
    """Raise InputError where the prompt or the target is empty or nothing but whitespace."""
    for side, text in (("prompt", query.prompt), ("target", query.target)):
        if not text.strip():
            raise InputError(f"{query.place}: the {side} is empty; a query needs a prompt and a target")


def _query_of(source: Source, record: Record, id_field: str | None) -> Query:
    present = record.fields.keys()
    schema = next((schema for schema in SCHEMAS if present >= set(schema[:2])), None)
    if schema is None:
        known = ", ".join(f"{prompt}/{target}" for prompt, target, _ in SCHEMAS)
        found = ", ".join(record.fields) or "none"
        raise InputError(f"{record.place}: no prompt and target ({known}); the fields are: {found}")
    prompt, target, id_fields = schema
    field = id_field or next((name for name in id_fields if name in record.fields), None)
    return Query(
        id=id_of(record, field) if field else f"{source.name}:{record.number}",
        prompt=text_of(record, prompt),
        target=text_of(record, target),
        fields={name: value for name, value in record.fields.items() if name not in RESULT_FIELDS},
        place=record.place,
    )
