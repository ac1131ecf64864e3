"""Proponents that do not repeat each other: near-identical passages merged, and diverse ones chosen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from proponent.attribute.attribution import Hit, ScoredPassage
from proponent.attribute.selection import Support, Terms, choose
from proponent.index.run import Index
from proponent.index.scores import InnerProduct
from proponent.index.similarity import similarities

# Passages that are retrieved for each that is shown, and at least: among them the distinct ones are found.
CANDIDATES_EACH, CANDIDATES = 10, 100
NEAR_IDENTICAL = 0.9  # share of common word triples
# Similarities within so many robust standard deviations of chance are no similarity; one is 1.4826 medians.
CHANCE, MEDIANS = 4, 1.4826


def candidates(k: int) -> int:
    """How many passages to retrieve in order to show k distinct ones."""
    return max(CANDIDATES_EACH * k, CANDIDATES)


def merged(hit: Hit) -> Hit:
    """The hit without passages that are near-identical to one before; that one names them (``duplicates``).

    Two texts are near-identical where they share nine tenths of their word triples, whatever the case and
    punctuation.
    """
    return replace(hit, proponents=_merged(hit.proponents), opponents=_merged(hit.opponents))


def _merged(passages: Sequence[ScoredPassage]) -> tuple[ScoredPassage, ...]:
    kept: list[tuple[ScoredPassage, frozenset[str], list[str]]] = []
    for passage in passages:
        words = _triples(passage.text)
        same = next((ids for _, others, ids in kept if _alike(words, others)), None)
        if same is not None:
            same.append(passage.id)
        else:
            kept.append((passage, words, []))
    return tuple(replace(passage, duplicates=tuple(ids)) for passage, _, ids in kept)


def _triples(text: str) -> frozenset[str]:
    words = ["", *re.findall(r"\w+", text.casefold()), ""]
    return frozenset(" ".join(words[n : n + 3]) for n in range(max(1, len(words) - 2)))


def _alike(some: frozenset[str], others: frozenset[str]) -> bool:
    return len(some & others) >= NEAR_IDENTICAL * len(some | others)


def diverse(index: Index, inner: InnerProduct, hit: Hit, k: int) -> Hit:
    """The hit with k proponents and k opponents so chosen that they do not repeat each other.

    A passage spreads the size of its score over itself and the passages of its side that are like it, in the
    measure of their cosine under the inner product; each of these counts the most that it is given by one of
    the set: facility location.  They come in the order in which they were chosen, the first as ever, each
    with what it adds (``adds``): its own score where it is like none before it, 0 where it repeats one.
    Fewer than k where no other adds anything.
    """
    proponents = _diverse(index, inner, hit.proponents, [p.score for p in hit.proponents], k)
    opponents = _diverse(index, inner, hit.opponents, [-p.score for p in hit.opponents], k)
    return replace(hit, proponents=proponents, opponents=opponents)


def _diverse(
    index: Index, inner: InnerProduct, passages: Sequence[ScoredPassage], influence: Sequence[float], k: int
) -> tuple[ScoredPassage, ...]:
    positions = torch.tensor([passage.row for passage in passages])
    order = positions.argsort()
    alike = torch.empty(len(order), len(order), dtype=torch.float64)
    alike[order[:, None], order] = similarities(index.only(positions[order]), inner, index.whitening)
    spread = beyond_chance(alike)
    spread *= torch.tensor(influence, dtype=torch.float64) / spread.sum(0)  # [n, n], a column a passage
    found = choose(Support(spread), Terms(k))
    pairs = zip(found.passages, found.gains, strict=True)
    return tuple(replace(passages[number], adds=gain) for number, gain in pairs)


def beyond_chance(alike: Tensor) -> Tensor:
    """Similarities [n, n] in [0, 1] of cosines: those that any two passages have by chance are 0."""
    apart = alike.masked_select(~torch.eye(len(alike), dtype=torch.bool)).abs()
    chance = min(0.5, CHANCE * MEDIANS * float(apart.median())) if len(apart) else 0.0
    return ((alike - chance) / (1 - chance)).clamp(min=0).fill_diagonal_(1.0)
