"""Does a score stand out?  How many passages of the corpus would be expected to score as high by chance.

Scores of passages that have nothing to do with a query fall off about exponentially above their median m.
Where s₉₈ is the 98th percentile of the query's own scores, few of the passages up to there are truly
influential, so that the two give the scale of chance, and with it the number expected at s or above:

    b = (s₉₈ − m) / ln 25        chance(s) = N/2 · exp(−(s − m) / b)

which counts the N passages that were searched: 1 is what the best of nothing but noise has on average.  For
opponents the same is done below the median, with the 2nd percentile.  What is meant is chance among the
passages of this corpus: one that shares no more than the query's template stands out as well, unless a task
mix takes out what the task's queries share.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from proponent.attribute.attribution import Hit, ScoredPassage
from proponent.index.background import QUANTILES
from proponent.index.search import Found

FEWEST = 100  # passages of which the outer percentiles say anything
STANDS_OUT = 0.05  # the most passages by chance at which a passage is said to stand out


def chances(found: Found, rows: int) -> tuple[Tensor, Tensor]:
    """Passages of ``rows`` expected by chance at each proponent's score [q, k] or above; opponents' or below.

    Between 0 and ``rows``; not a number where it cannot be told: of fewer than ``FEWEST`` passages, or where
    scores are not spread.
    """
    low, middle, high = found.background.quantiles().split(1, 1)  # [q, 1] each
    above = _expected(found.proponent_scores - middle, high - middle, rows)
    return above, _expected(middle - found.opponent_scores, middle - low, rows)


def _expected(beyond: Tensor, spread: Tensor, rows: int) -> Tensor:
    """beyond: distances [q, k] from the median.  spread: of the outer percentile from it, [q, 1]."""
    scale = spread / -math.log(2 * QUANTILES[0])
    known = (scale > 0) & (rows >= FEWEST)
    expected = (rows / 2 * torch.exp(-beyond.double() / scale)).clamp(max=rows)
    return torch.where(known, expected, torch.nan)


def number_or_none(value: float) -> float | None:
    """None for what is not a number."""
    return None if math.isnan(value) else value


def stands_out(passage: ScoredPassage) -> bool:
    """Whether a passage's score does, or is not known not to."""
    return passage.chance is None or passage.chance <= STANDS_OUT


def by_chance(passage: ScoredPassage) -> str:
    """Its expected number by chance in two figures, '' where it is not known."""
    if passage.chance is None:
        return ""
    if passage.chance < 0.001:
        return "<0.001"
    return f"{passage.chance:.2g}" if passage.chance < 99 else "100+"


def nothing_stands_out(hit: Hit) -> str:
    """A sentence for a hit whose proponents could all be there by chance, '' for any other."""
    if not hit.proponents or any(map(stands_out, hit.proponents)):
        return ""
    count = by_chance(hit.proponents[0])
    return f"Nothing stands out: by chance alone, about {count} passages would score as high as the first."
