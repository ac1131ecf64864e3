"""What a trace gives: for each query its proponents and opponents, and the result files that hold them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from proponent.corpus.example import Query
from proponent.corpus.queries import Queries
from proponent.corpus.records import Record
from proponent.corpus.sources import read_records
from proponent.errors import InputError
from proponent.files import written_whole

SETTINGS = ("method", "mix", "run")


@dataclass(frozen=True)
class ScoredPassage:
    """A passage with its influence on a query.

    id: of the passage, or of a chunk of it.  source: the passage's id in the corpus.
    score: higher pushed the model more towards the target; in [-1, 1] for methods with unit norm.
    """

    id: str
    source: str
    text: str
    score: float


@dataclass(frozen=True)
class Hit:
    """One query's result: proponents from the highest score down, opponents from the lowest up."""

    query: Query
    proponents: tuple[ScoredPassage, ...]
    opponents: tuple[ScoredPassage, ...]

    def record(self) -> dict[str, Any]:
        """The fields of the paper's result files; for facts, which proponents state the fact."""
        fields: dict[str, Any] = {
            "example_id": self.query.id,
            "query_set": self.query.fields.get("query_set", "queries" if self.gold is None else "facts"),
            "inputs_plaintext": self.query.prompt,
            "targets_plaintext": self.query.target,
            **_columns("proponent", self.proponents),
            **_columns("opponent", self.opponents),
        }
        for name in ("fact_id", "relation"):
            if name in self.query.fields:
                fields[name] = self.query.fields[name]
        if self.gold is not None:
            fields["proponent_correct"] = [passage.source in self.gold for passage in self.proponents]
        return fields

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        from proponent.attribute.notebook import hit_html

        return hit_html(self)

    @property
    def gold(self) -> frozenset[str] | None:
        """Ids of the passages annotated with the query's fact; None where the query is not a fact."""
        sentences = self.query.fields.get("trex_sentences")
        return frozenset(map(str, sentences)) if isinstance(sentences, list) else None


def _passages(record: Record, role: str) -> tuple[ScoredPassage, ...]:
    """The passages of one role in a result record."""
    fields = record.fields
    texts = fields.get(f"{role}s") or []
    ids = fields.get(f"{role}_ids") or []
    sources = fields.get(f"{role}_sources") or ids
    scores = fields.get(f"{role}_scores") or [0.0] * len(ids)
    if not len(texts) == len(ids) == len(sources) == len(scores) or (role == "proponent" and not ids):
        raise InputError(
            f"{record.place}: {len(texts)} {role}s with {len(ids)} ids and {len(scores)} scores; "
            "a result file has one of each for every passage"
        )
    return tuple(
        ScoredPassage(str(id), str(source), str(text), float(score))
        for id, source, text, score in zip(ids, sources, texts, scores, strict=True)
    )


def _columns(role: str, passages: Sequence[ScoredPassage]) -> dict[str, list[Any]]:
    return {
        f"{role}s": [passage.text for passage in passages],
        f"{role}_ids": [passage.id for passage in passages],
        f"{role}_scores": [passage.score for passage in passages],
        f"{role}_sources": [passage.source for passage in passages],
    }


@dataclass(frozen=True)
class Attribution(Sequence[Hit]):
    """The hits of a trace, in the order of the queries.

    settings: how they were made (method, task mix, run), kept in every line of a result file.
    """

    hits: tuple[Hit, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...

    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        return self.hits[index]

    def records(self) -> Iterator[dict[str, Any]]:
        """One result record a query: the paper's fields, then the settings."""
        return ({**hit.record(), **self.settings} for hit in self.hits)

    def _repr_html_(self) -> str:
        """How a notebook shows it: the first queries with their first passages."""
        from proponent.attribute.notebook import attribution_html

        return attribution_html(self.hits, self.settings)

    @classmethod
    def read(cls, path: str | Path) -> Attribution:
        """Read a result file: ours, or one of the paper's release.

        Sources, scores and opponents may be missing; then a passage's source is its id and its score 0.
        Raises InputError for a line without ids, or whose columns do not have the same length.
        """
        queries = Queries.read(path)
        records = [record for _, record in read_records(path)]
        hits = tuple(
            Hit(query, _passages(record, "proponent"), _passages(record, "opponent"))
            for query, record in zip(queries, records, strict=True)
        )
        return cls(hits, {name: records[0].fields.get(name) for name in SETTINGS})

    def write(self, path: str | Path) -> None:
        """Write the records as JSONL, whole or not at all."""
        with written_whole(Path(path)) as aside, open(aside, "w", encoding="utf-8") as file:
            for record in self.records():
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
