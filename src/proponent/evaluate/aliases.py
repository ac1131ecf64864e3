"""Where a text mentions an entity by one of its names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

Span = tuple[int, int]  # of characters


def mentions(text: str, names: Iterable[str]) -> bool:
    """Whether a text has one of the names; see ``spans``."""
    return bool(spans(text, names))


def spans(text: str, names: Iterable[str]) -> list[Span]:
    """Where a text has one of the names as whole words, first to last.

    Whatever the case and the white space between words; but a name of one word that begins with a capital
    must have it, as in Apple and apple.  Names that are blank are nowhere.
    """
    pattern = _pattern(tuple(names))
    return [match.span() for match in pattern.finditer(text)] if pattern else []


@lru_cache(maxsize=4096)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str] | None:
    """All names at once, the longest first, so that what one begins with is not found in its place."""
    filled = sorted({name.strip() for name in names if name.strip()}, key=lambda name: (-len(name), name))
    words = (r"\s+".join(map(re.escape, name.split())) for name in filled)
    cased = (
        word if name[0].isupper() and " " not in name else f"(?i:{word})"
        for name, word in zip(filled, words, strict=True)
    )
    return re.compile(rf"(?<!\w)(?:{'|'.join(cased)})(?!\w)") if filled else None
