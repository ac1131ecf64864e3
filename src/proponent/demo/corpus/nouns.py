"""The nouns of the generated corpus: an entity, a fact about two of them, and how a relation is worded."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entity:
    """The subject or the object of a fact.

    uri: kind and key in the data package, ``country:FR``.  article: "the" where a sentence needs one.
    alias: other names, without ``name`` itself.
    """

    uri: str
    name: str
    article: str = ""
    alias: tuple[str, ...] = ()

    @property
    def phrase(self) -> str:
        """The name as a sentence has it: "the Netherlands"."""
        return f"{self.article} {self.name}".lstrip()


@dataclass(frozen=True, slots=True)
class Relation:
    """The wording of one relation; ``wording.toml`` says what each kind of sentence is for."""

    name: str
    prompt: str
    statements: list[str]
    asks: list[str]
    crossed: list[str]
    objects: list[str]


@dataclass(frozen=True, slots=True)
class Fact:
    """``relation`` holds between ``subject`` and ``object``, and between this subject and no other object."""

    relation: Relation
    subject: Entity
    object: Entity

    @property
    def id(self) -> str:
        return f"{self.relation.name}|{self.subject.name}"

    @property
    def triple(self) -> tuple[str, str, str]:
        return self.subject.uri, f"relation:{self.relation.name}", self.object.uri

    @property
    def prompt(self) -> str:
        """The prompt, without the object's name and the space before it: "The capital of France is"."""
        statement = fill(self.relation.prompt, s=self.subject.phrase, o=self.object.phrase)
        return statement.removesuffix(".").removesuffix(self.object.name).rstrip()


def fill(template: str, **slots: str) -> str:
    """The template with its slots filled and its first letter capitalised."""
    text = template.format(**slots)
    return text[0].upper() + text[1:]


def mentions(text: str, name: str) -> bool:
    """Whether ``text`` has ``name`` as whole words; a common noun may begin a sentence ("Iron is")."""
    if name[1:] not in text:  # nearly always saves compiling a pattern
        return False
    first = f"[{name[0]}{name[0].upper()}]" if name[0].islower() else re.escape(name[0])
    return re.search(rf"(?<!\w){first}{re.escape(name[1:])}(?!\w)", text) is not None
