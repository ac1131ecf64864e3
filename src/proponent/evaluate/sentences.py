"""A text cut into sentences, well enough to look for two names in one."""

from __future__ import annotations

import re

# Words that a full stop shortens and that seldom end a sentence.
SHORTENED = frozenset(
    {"st", "mr", "mrs", "ms", "dr", "prof", "jr", "sr", "vs", "no", "mt", "ft", "gen", "col", "lt", "sgt"}
    | {"capt", "rev", "hon", "inc", "ltd", "co", "corp", "cf", "ca", "approx", "est", "dept", "univ"}
    | {"jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"}
)
_END = re.compile(r"""[.!?…]+["'”’)\]]*(?=\s+["'“‘(\[]?[\w])|。|\n+""")


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the white space around them; none of a blank one.

    A sentence ends at a line end, or at ``.``, ``!``, ``?`` or ``…`` before white space; not at the full stop
    of initials ("J. Smith", "U.S. Navy") or of a usual short form ("St. Louis"), nor before a word in lower
    case.
    """
    found, start = [], 0
    for end in _END.finditer(text):
        following = text[end.end() :].lstrip().lstrip("\"'“‘([")[:1]
        before = re.search(r"[\w.]*$", text[start : end.start()])
        word = before[0] if before else ""
        initials = re.fullmatch(r"[A-Z]|(\w\.)+\w", word)  # J. Smith, the U.S. Navy
        inside = end[0] == "." and (initials or word.lower() in SHORTENED)
        if "\n" not in end[0] and (inside or following.islower()):
            continue
        found.append(text[start : end.end()].strip())
        start = end.end()
    return [sentence for sentence in [*found, text[start:].strip()] if sentence]
