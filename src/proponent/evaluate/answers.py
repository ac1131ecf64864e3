"""The word or name with which a model answers, in the text that it goes on with."""

from __future__ import annotations

import re

# What ends an answer: a mark, or a dot that is not behind an initial or within a word.
END = re.compile(r"[\n,;:!?()\[\]|\"“”—]|(?<!\b[^\W\d_])\.(?=\s|$)")
_JOINING = (
    "a about after an and are as at be been before but by during for from had has have he her his if in into "
    "is it its not of on or our over she since so than that the their then there these they this those to "
    "under until was were what when where which while who will with would you your"
)
_IN_NAMES = "of the de la del di da du von van der den"
# Words that join phrases, and those of them that may be inside a name.
FUNCTION_WORDS = frozenset(f"{_JOINING} {_IN_NAMES}".split())
LINKS = frozenset(_IN_NAMES.split())


def answer_in(text: str) -> str:
    """The word or name that a continuation begins with; empty where there is none.

    It is in the first line that is not blank, ends before a punctuation mark, and goes on to the first
    function word, but for one inside a name: ``the University of Oxford in`` gives ``the University of
    Oxford``.  Function words that the text begins with are kept: they are the beginning of what is said.
    """
    words = END.split(text.strip(), maxsplit=1)[0].split()
    end = next((n for n, word in enumerate(words) if word not in FUNCTION_WORDS), None)
    if end is None:
        return ""
    while end < len(words):
        following = next((n for n in range(end, len(words)) if words[n] not in LINKS), end)
        if words[following][0].isupper():  # a name, or more of it
            end = following + 1
        elif words[end] in FUNCTION_WORDS:
            break
        else:
            end += 1
    return " ".join(words[:end])


def without_article(name: str) -> str:
    """A name without the article before it."""
    return re.sub(r"^(?:the|a|an)\s+(?=\S)", "", name.strip(), flags=re.IGNORECASE)
