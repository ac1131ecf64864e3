"""Facts to trace, in the schema of the paper's release (``facts.jsonl``)."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from proponent.corpus.example import Query
from proponent.corpus.fields import id_of, ids_of, strings_of, text_of
from proponent.corpus.names import renamed
from proponent.corpus.records import Record
from proponent.corpus.repeats import repeated_id
from proponent.corpus.sources import read_records
from proponent.errors import InputError


@dataclass(frozen=True, slots=True)
class Fact:
    """Subject (entity0), relation and object (entity1), with a prompt that the object completes.

    trex_sentences: ids of the passages that are annotated with it.
    more: the other fields of its line (``c4_frequency``, ``prompt1``, ...), under their newer names.
    """

    fact_id: str
    entity0: str
    relation: str
    entity1: str
    entity0_uri: str
    predicate_uri: str
    entity1_uri: str
    entity0_alias: tuple[str, ...]
    entity1_alias: tuple[str, ...]
    trex_sentences: tuple[str, ...]
    prompt0: str
    more: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def fields(self) -> dict[str, Any]:
        """The fields of its line but for the passages: what is known of the fact itself."""
        aliases = {"entity0_alias": list(self.entity0_alias), "entity1_alias": list(self.entity1_alias)}
        return {name: getattr(self, name) for name in TEXTS} | aliases | dict(self.more)

    @property
    def triple(self) -> tuple[str, str, str]:
        """The fact as a passage's ``fact_triples`` annotate it."""
        return (self.entity0_uri, self.predicate_uri, self.entity1_uri)


def gold_ids(query: Query) -> frozenset[str] | None:
    """Ids of the passages that state a query's fact; None where the query is not a fact."""
    if query.fields.get("trex_sentences") is None:
        return None
    return frozenset(ids_of(Record(dict(query.fields), query.place, 0), "trex_sentences"))


def read_facts(path: str | os.PathLike[str], asked: Collection[str] | None = None) -> tuple[Fact, ...]:
    """The facts of a file, in its order, read as a stream.

    asked: only the facts of these ids are kept, and looked at beside the first; None: all.
    Raises InputError, naming file and line, for a field that is missing, empty or not of its type, and
    for a fact_id that is repeated; aliases and trex_sentences may be missing or null, which is none.
    """
    facts: list[Fact] = []
    places: dict[str, str] = {}
    seen = False
    for _, record in read_records(path):
        unasked = asked is not None and "fact_id" in record.fields and id_of(record, "fact_id") not in asked
        if not (unasked and seen):
            fact = _fact_of(record)
        seen = True
        if unasked:
            continue
        if fact.fact_id in places:
            raise repeated_id(fact.fact_id, places[fact.fact_id], record.place, "keep one of the two")
        places[fact.fact_id] = record.place
        facts.append(fact)
    if not seen:
        raise InputError(f"{os.fspath(path)}: there are no facts in it")
    return tuple(facts)


TEXTS = ("entity0", "relation", "entity1", "entity0_uri", "predicate_uri", "entity1_uri", "prompt0")


def _fact_of(record: Record) -> Fact:
    return Fact(
        fact_id=id_of(record, "fact_id"),
        entity0_alias=strings_of(record, "entity0_alias"),
        entity1_alias=strings_of(record, "entity1_alias"),
        trex_sentences=ids_of(record, "trex_sentences"),
        more={name: v for name, v in renamed(record.fields).items() if name not in Fact.__dataclass_fields__},
        **{field: _filled(record, field) for field in TEXTS},
    )


def _filled(record: Record, field: str) -> str:
    text = text_of(record, field)
    if not text.strip():
        raise InputError(f"{record.place}: the field {field!r} is empty; a fact needs it")
    return text
