"""Where a text mentions an entity by one of its names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from unicodedata import normalize

Span = tuple[int, int]  # of characters


def mentions(text: str, names: Iterable[str]) -> bool:
    """Whether a text has one of the names; see ``spans``."""
    return bool(spans(text, names))


def spans(text: str, names: Iterable[str]) -> list[Span]:
    """Where a text has one of the names as whole words, first to last.

    Whatever the case, the white space between words, the kind of apostrophe and the way accents are encoded;
    but a name of one word that begins with a capital must have it, as in Apple and apple.  Names that are
    blank are nowhere, and so are those of one letter beside longer ones.  In scripts without spaces between
    words a name is found only where none of their letters is beside it.
    """
    pattern = _pattern(tuple(names))
    return [match.span() for match in pattern.finditer(text)] if pattern else []


def outside(ones: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """Those that are not a part of a longer one of the others: Kyoto is not meant in *Kyoto Protocol*."""
    return [one for one in ones if not any(one != o and o[0] <= one[0] and one[1] <= o[1] for o in others)]


def _escaped(word: str) -> str:
    return re.sub("['’]", "['’]", re.escape(word))


@lru_cache(maxsize=4096)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str] | None:
    """All names at once, the longest first, so that what one begins with is not found in its place."""
    given = {name.strip() for name in names if name.strip()}
    long = {name for name in given if len(name) > 1} or given
    forms = {normalize(form, name) for name in long for form in ("NFC", "NFD")}
    filled = sorted(forms, key=lambda name: (-len(name), name))
    words = (r"\s+".join(map(_escaped, name.split())) for name in filled)
    cased = (
        word if name[0].isupper() and " " not in name else f"(?i:{word})"
        for name, word in zip(filled, words, strict=True)
    )
    return re.compile(rf"(?<!\w)(?:{'|'.join(cased)})(?!\w)") if filled else None
