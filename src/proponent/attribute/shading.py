"""How token scores are shown: as shares of the strongest, and the strongest in words."""

from __future__ import annotations

from proponent.attribute.attribution import ScoredPassage, TokenScores
from proponent.progress import printable

NAMED = 3  # tokens that are named for a passage and for a target
WEAK = 0.15  # share of the strongest below which a token is not shaded


def shares(tokens: TokenScores) -> list[tuple[str, float]]:
    """Each part of a text with its score over the strongest's, in [-1, 1]; 0 where it is weak.

    What belongs to no text (the special prefix) is no measure for the others.
    """
    largest = max((abs(score) for text, score in tokens if text.strip()), default=0.0) or 1.0
    found = ((text, max(-1.0, min(1.0, score / largest))) for text, score in tokens)
    return [(text, share if abs(share) >= WEAK else 0.0) for text, share in found]


def in_words(passage: ScoredPassage) -> str:
    """The tokens with the strongest scores, and which tokens of the target asked; '' where there are none."""
    if passage.tokens is None:
        return ""
    line = f"tokens: {_strongest(passage.tokens)}"
    asked = passage.target_tokens or ()
    return f"{line}; asked by {_strongest(asked)}" if len(asked) > 1 else line


def _strongest(tokens: TokenScores) -> str:
    named = [(" ".join(printable(text).split()) or "(prefix)", score) for text, score in tokens]
    named.sort(key=lambda pair: -abs(pair[1]))
    return ", ".join(f"{text} {score:+.3g}" for text, score in named[:NAMED])
