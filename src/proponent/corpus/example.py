"""The nouns of the corpus: a passage, a chunk of it that fits the model, and a query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Example:
    """One passage of the corpus, as it was read.

    id: unique in its corpus.  text: may be empty (readers yield it, the run skips and counts it).
    place: where it was read, ``file:line`` or ``source:row``, for error messages.
    """

    id: str
    text: str
    place: str

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it but whitespace."""
        return not self.text or self.text.isspace()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage, or a part of a long one, as token ids that the model takes at once.

    id: the passage's id where it fits whole, else ``id#0``, ``id#1``, ...
    text: the characters that the tokens cover.
    tokens: token ids, special prefix (such as a beginning-of-text token) included.
    start: index of the first token that is scored, >= 1: no token of the special prefix ever is.
    """

    id: str
    text: str
    tokens: tuple[int, ...]
    start: int = 1


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt and the target whose prediction is traced.

    fields: what else its line held (``fact_id``, ``relation``, aliases, ...), kept for result files.
    place: where it was read, ``file:line``, for error messages.
    """

    id: str
    prompt: str
    target: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    place: str = "query"


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """A query as token ids: ``tokens[boundary:]`` are exactly the target's.

    boundary: number of leading tokens that belong to the prompt (special prefix included), >= 1.
    """

    tokens: tuple[int, ...]
    boundary: int
