"""Gold: which passages are right for which query, by a corpus's annotations of facts or as given pairs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proponent.attribute.attribution import Attribution, Hit
from proponent.corpus.example import Query
from proponent.corpus.facts import Fact, read_facts
from proponent.corpus.fields import id_of, list_of
from proponent.corpus.sources import read_records
from proponent.errors import InputError
from proponent.evaluate.pairs import are_pairs, read_pairs
from proponent.remote import is_url

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

Triple = tuple[str, str, str]  # URIs of subject, relation and object


@dataclass(frozen=True)
class Gold:
    """Facts by id, none where there are only pairs; and by a query's id those of its passages."""

    facts: Mapping[str, Fact]
    passages: Mapping[str, frozenset[str]]

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        sentences: Paths | None = None,
        asked: Collection[str] | None = None,
    ) -> Gold:
        """Gold of a facts file, or of a file of pairs (query id, passage id): see `read_pairs`.

        sentences: files, globs or folders of annotated sentences.  A fact's passages are those that it lists,
        or, with sentences, those whose annotated triples hold it.
        asked: ids of the queries that will be judged (see `asked_by`), so that only these are kept of files
        that are read as a stream; None: all.
        Raises InputError for facts or pairs that cannot be used, and where none of them has a passage.
        """
        name = os.fspath(path)
        first = next(read_records(path), None)
        if first is not None and are_pairs(first[1].fields):
            if sentences is not None:
                raise InputError(f"{name}: pairs name their passages; leave out the sentences")
            return cls({}, read_pairs(path, asked))
        facts = {fact.fact_id: fact for fact in read_facts(path, asked)}
        if sentences is None:
            passages = {id: frozenset(fact.trex_sentences) for id, fact in facts.items()}
            lacking = f"{name}: no fact lists a passage that states it; give the sentences file as well"
        else:
            shards = _shards(sentences)
            passages = _by_triples(facts, shards)
            lacking = f"{', '.join(shards)}: no sentence states any fact of {name}"
        if facts and not any(passages.values()):
            raise InputError(lacking)
        return cls(facts, passages)

    def id_of(self, hit: Hit) -> str:
        """What a hit's query is called here: by its id, else by the ``fact_id`` of its result record."""
        fact_id = str(hit.query.fields.get("fact_id"))
        return fact_id if hit.query.id not in self.passages and fact_id in self.passages else hit.query.id

    def of(self, hit: Hit) -> frozenset[str]:
        """Ids of the passages that are right for a hit's query; none for a query that is not here."""
        return self.passages.get(self.id_of(hit), frozenset())

    def fields_of(self, hit: Hit) -> Mapping[str, Any]:
        """The fields of a hit's fact, none where there are only pairs."""
        fact = self.facts.get(self.id_of(hit))
        return {} if fact is None else fact.fields()

    def query_of(self, hit: Hit) -> Query:
        """A hit's query as its fact asks it, with aliases of the target; as it is where there is no fact."""
        fact = self.facts.get(self.id_of(hit))
        if fact is None:
            return hit.query
        return replace(hit.query, prompt=fact.prompt0, target=fact.entity1, fields=fact.fields())

    def correct(self, hit: Hit) -> list[bool]:
        """Whether each proponent of a hit is right for its query, best first."""
        return hit.correct(self.of(hit)) or []

    def found(self, hit: Hit) -> list[bool]:
        """The same for each distinct passage, at its first chunk."""
        sources = dict.fromkeys(passage.source for passage in hit.proponents)
        gold = self.of(hit)
        return [source in gold for source in sources]

    def common(self, hits: Attribution, name: str) -> list[Hit]:
        """The hits whose query has gold passages; InputError naming the file where none does."""
        known = [hit for hit in hits if self.of(hit)]
        if not known:
            raise InputError(f"{name}: no query in common with the gold facts; are these the right facts?")
        return known


def asked_by(results: Iterable[Attribution]) -> frozenset[str]:
    """All that the queries of results can be called in a gold file: their ids, and their facts'."""
    hits = [hit for result in results for hit in result]
    facts = (hit.query.fields.get("fact_id") for hit in hits)
    return frozenset(hit.query.id for hit in hits) | {str(id) for id in facts if id is not None}


def _shards(sentences: Paths) -> list[str]:
    """Names of the files, globs and datasets; a folder of files stands for its files."""
    given = [sentences] if isinstance(sentences, str | os.PathLike) else sentences
    names = [os.fspath(name) for name in given if is_url(name)]
    for path in (Path(name) for name in given if not is_url(name)):
        saved = any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))
        files = path.is_dir() and not saved
        inside = sorted(file for file in path.iterdir() if file.is_file()) if files else []
        names += map(str, inside or [path])
    return names


def _by_triples(facts: Mapping[str, Fact], sentences: Paths) -> dict[str, frozenset[str]]:
    by_triple = {fact.triple: fact.fact_id for fact in facts.values()}
    found: dict[str, set[str]] = {fact_id: set() for fact_id in facts}
    for sentence_id, triples in annotated_triples(sentences):
        for triple in triples & by_triple.keys():
            found[by_triple[triple]].add(sentence_id)
    return {fact_id: frozenset(ids) for fact_id, ids in found.items()}


def passage_triples(facts: Iterable[Fact], sentences: Paths | None = None) -> dict[str, frozenset[Triple]]:
    """Triples of the passages that have any, by passage id: the facts that list a passage, and a sentences
    file's; errors as `annotated_triples`.
    """
    found: dict[str, frozenset[Triple]] = {}
    listed = ((id, frozenset({fact.triple})) for fact in facts for id in fact.trex_sentences)
    for id, triples in (*listed, *(annotated_triples(sentences) if sentences is not None else ())):
        found[id] = found.get(id, frozenset()) | triples
    return {id: triples for id, triples in found.items() if triples}


def annotated_triples(sentences: Paths) -> Iterator[tuple[str, frozenset[Triple]]]:
    """Id and triples of every sentence of a file; InputError, naming file and line, for what is no triple."""
    for _, record in read_records(*_shards(sentences)):
        triples = list_of(record, "fact_triples", _is_triple, "lists of three URIs")
        yield id_of(record, "sentence_id"), frozenset((s, p, o) for s, p, o in triples)


def _is_triple(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(uri, str) for uri in value)
