"""Gold: which passages state which fact, by the annotations of the corpus (the closed set)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from proponent.attribute.attribution import Attribution, Hit
from proponent.corpus.facts import Fact, read_facts
from proponent.corpus.fields import id_of, list_of
from proponent.corpus.sources import read_records
from proponent.errors import InputError

Triple = tuple[str, str, str]  # URIs of subject, relation and object


@dataclass(frozen=True)
class Gold:
    """Facts by id, and the ids of the passages that state each of them."""

    facts: Mapping[str, Fact]
    passages: Mapping[str, frozenset[str]]

    @classmethod
    def read(cls, facts: str | os.PathLike[str], sentences: str | os.PathLike[str] | None = None) -> Gold:
        """Gold of a facts file: the passages that each fact lists, or, with a sentences file, those whose
        annotated triples hold it.

        Raises InputError for facts that cannot be used, and where no fact has any passage.
        """
        read, name = {fact.fact_id: fact for fact in read_facts(facts)}, os.fspath(facts)
        if sentences is None:
            passages = {id: frozenset(fact.trex_sentences) for id, fact in read.items()}
            lacking = f"{name}: no fact lists a passage that states it; give the sentences file as well"
        else:
            passages = _by_triples(read, sentences)
            lacking = f"{os.fspath(sentences)}: no sentence states any fact of {name}"
        if not any(passages.values()):
            raise InputError(lacking)
        return cls(read, passages)

    def correct(self, hit: Hit) -> list[bool]:
        """Whether each proponent of a hit states its fact, best first.  KeyError for another query's hit."""
        return hit.correct(self.passages[hit.query.id]) or []

    def common(self, hits: Attribution, name: str) -> list[Hit]:
        """The hits whose query is a fact with gold passages; InputError naming the file where none is."""
        known = [hit for hit in hits if self.passages.get(hit.query.id)]
        if not known:
            raise InputError(f"{name}: no query in common with the gold facts; are these the right facts?")
        return known


def _by_triples(facts: Mapping[str, Fact], sentences: str | os.PathLike[str]) -> dict[str, frozenset[str]]:
    by_triple = {fact.triple: fact.fact_id for fact in facts.values()}
    found: dict[str, set[str]] = {fact_id: set() for fact_id in facts}
    for sentence_id, triples in annotated_triples(sentences):
        for triple in triples & by_triple.keys():
            found[by_triple[triple]].add(sentence_id)
    return {fact_id: frozenset(ids) for fact_id, ids in found.items()}


def passage_triples(
    facts: Iterable[Fact], sentences: str | os.PathLike[str] | None = None
) -> dict[str, frozenset[Triple]]:
    """Triples of the passages that have any, by passage id: the facts that list a passage, and a sentences
    file's; errors as `annotated_triples`.
    """
    found: dict[str, frozenset[Triple]] = {}
    listed = ((id, frozenset({fact.triple})) for fact in facts for id in fact.trex_sentences)
    for id, triples in (*listed, *(annotated_triples(sentences) if sentences is not None else ())):
        found[id] = found.get(id, frozenset()) | triples
    return {id: triples for id, triples in found.items() if triples}


def annotated_triples(sentences: str | os.PathLike[str]) -> Iterator[tuple[str, frozenset[Triple]]]:
    """Id and triples of every sentence of a file; InputError, naming file and line, for what is no triple."""
    for _, record in read_records(sentences):
        triples = list_of(record, "fact_triples", _is_triple, "lists of three URIs")
        yield id_of(record, "sentence_id"), frozenset((s, p, o) for s, p, o in triples)


def _is_triple(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(uri, str) for uri in value)
