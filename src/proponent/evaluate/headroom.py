"""What a proponent has in common with the statement that it is to support, where it does not make it.

The categories are those of the paper's headroom analysis, from annotated triples where a passage has any,
else from names and a judge of entailment.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from proponent.corpus.facts import Fact
from proponent.evaluate.aliases import outside, spans
from proponent.evaluate.answers import FUNCTION_WORDS, without_article
from proponent.evaluate.gold import Triple

SHORTEST_PART = 3  # letters


class Category(StrEnum):
    """What a passage has of a statement, strongest first; a passage is of the first that fits.

    Whether it has a relation of the same type is known of annotated passages only; what others would be
    with it and without is one category each.
    """

    ENTAILED = "full entailment"
    BOTH = "both entities, not the relation"
    TARGET_RELATION = "target, same relation type"
    TARGET_NOT_KNOWN = "target, relation not known"
    TARGET = "target only"
    SUBJECT = "subject or part of its name only"
    RELATION = "same relation type only"
    NO_ENTITY_NOT_KNOWN = "no entity, relation not known"
    NONE = "none"


@dataclass(frozen=True)
class Entity:
    """Names that a passage may call it by, and the URIs that a triple may."""

    names: tuple[str, ...]
    uris: frozenset[str] = frozenset()

    def annotated(self, triples: Collection[Triple]) -> bool:
        """Whether it is the subject or the object of a triple."""
        return any(not self.uris.isdisjoint((subject, object)) for subject, _, object in triples)

    @property
    def parts(self) -> tuple[str, ...]:
        """Words of its names that begin with a capital: what it shares with others of the name."""
        words = (word for name in self.names for word in re.findall(r"[^\W_]+", name))
        kept = (
            w for w in words if w[0].isupper() and len(w) >= SHORTEST_PART and w.lower() not in FUNCTION_WORDS
        )
        return tuple(dict.fromkeys(kept))


@dataclass(frozen=True)
class Statement:
    """What a query says with its target: subject, type of relation (a URI) and object."""

    subject: Entity
    predicate: str
    target: Entity

    def made_by(self, triples: Iterable[Triple]) -> bool:
        """Whether a triple makes it."""
        return any(s in self.subject.uris and self.has_relation((s, p, o)) for s, p, o in triples)

    def has_relation(self, triple: Triple) -> bool:
        """Whether a triple says the same of its own subject."""
        return triple[1] == self.predicate and triple[2] in self.target.uris


class Entities:
    """The entities of facts, to find which one a name is of."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self._names: dict[str, set[str]] = {}
        self._uris: dict[str, set[str]] = {}
        for fact in facts:
            self._add(fact.entity0_uri, (fact.entity0, *fact.entity0_alias))
            self._add(fact.entity1_uri, (fact.entity1, *fact.entity1_alias))

    def _add(self, uri: str, names: Sequence[str]) -> None:
        self._names.setdefault(uri, set()).update(names)
        for name in names:
            self._uris.setdefault(_plain(name), set()).add(uri)

    def called(self, name: str) -> Entity:
        """The entities of a name, whatever its case and an article before it, with all names that they have.

        A name that no fact has is an entity with this name and no URI.
        """
        uris = self._uris.get(_plain(name), set())
        others = sorted(other for uri in uris for other in self._names[uri])
        return Entity(tuple(dict.fromkeys((without_article(name), *others))), frozenset(uris))


def statement_of(fact: Fact, answer: str | None = None, entities: Entities | None = None) -> Statement:
    """What a fact says, or what it would say with an answer for its object, found among ``entities``."""
    subject = Entity((fact.entity0, *fact.entity0_alias), frozenset({fact.entity0_uri}))
    if answer is None:
        target = Entity((fact.entity1, *fact.entity1_alias), frozenset({fact.entity1_uri}))
    else:
        target = (entities or Entities(())).called(answer)
    return Statement(subject, fact.predicate_uri, target)


def categorise(
    text: str, triples: Collection[Triple] | None, statement: Statement, entailed: bool = False
) -> Category:
    """The first category that fits a passage.

    triples: what it is annotated with; None: it is not annotated.  entailed: what a judge of entailment says
    of a passage that is not; annotations go before it.
    """
    known = triples or ()
    if statement.made_by(known) if triples is not None else entailed:
        return Category.ENTAILED
    subjects, targets = spans(text, statement.subject.names), spans(text, statement.target.names)
    subject = statement.subject.annotated(known) or bool(outside(subjects, targets))
    target = statement.target.annotated(known) or bool(outside(targets, subjects))
    if subject and target:
        return Category.BOTH
    if target:
        if triples is None:
            return Category.TARGET_NOT_KNOWN
        return Category.TARGET_RELATION if _says_of_another(known, statement) else Category.TARGET
    if subject or _has_a_part(text, statement.subject):
        return Category.SUBJECT
    if triples is None:
        return Category.NO_ENTITY_NOT_KNOWN
    return Category.RELATION if any(p == statement.predicate for _, p, _ in known) else Category.NONE


def _says_of_another(triples: Collection[Triple], statement: Statement) -> bool:
    """Whether a triple says the same of another subject.

    A target without a URI is known by its name alone, which the passage has; then any object counts.
    """
    if not statement.target.uris:
        return any(p == statement.predicate for _, p, _ in triples)
    return any(map(statement.has_relation, triples))


def _has_a_part(text: str, entity: Entity) -> bool:
    """Whether a text has a word of the entity's name, written with a capital as there."""
    return any(re.search(rf"\b{re.escape(part)}\b", text) for part in entity.parts)


def _plain(name: str) -> str:
    return " ".join(without_article(name).casefold().split())


@dataclass(frozen=True)
class Agreement:
    """Of a person's labels with the categories.

    accuracy: share that are the same.  kappa: Cohen's, (accuracy − chance) / (1 − chance), where chance is
    the agreement of two that label independently and as often so; 1 where both give one label only.
    confusion: (label, category) → number.
    """

    accuracy: float
    kappa: float
    confusion: Mapping[tuple[str, str], int]


def agreement(labels: Sequence[str], categories: Sequence[str]) -> Agreement:
    """How far labels agree with categories, both in one order; ValueError for none or unequal numbers."""
    pairs = Counter(zip(labels, categories, strict=True))
    if not (total := pairs.total()):
        raise ValueError("no labels to compare")
    same = sum(n for (label, category), n in pairs.items() if label == category) / total
    ours, theirs = Counter(labels), Counter(categories)
    chance = sum(ours[name] * theirs[name] for name in ours) / total**2
    kappa = (same - chance) / (1 - chance) if chance < 1 else 1.0
    return Agreement(same, kappa, dict(pairs))
