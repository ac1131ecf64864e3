"""Proponents that do not repeat each other: near-identical passages merged, and diverse ones chosen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from proponent.attribute.attribution import Hit, ScoredPassage
from proponent.attribute.selection import Support, Terms, choose
from proponent.index.run import Index
from proponent.index.scores import InnerProduct
from proponent.index.similarity import cosines, unit_rows
from proponent.progress import Progress

# Passages that are retrieved for each that is shown, and at least: among them the distinct ones are found.
CANDIDATES_EACH, CANDIDATES = 4, 100
NEAR_IDENTICAL = 0.9  # share of common word triples
TOGETHER = 2**27  # numbers of the passages' vectors that are held at a time, for several queries
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
    kept: list[tuple[ScoredPassage, int, list[str]]] = []
    having: dict[str, list[int]] = {}  # numbers of the kept passages with each triple of words
    for passage in passages:
        triples = _triples(passage.text)
        shared = Counter(number for triple in triples for number in having.get(triple, ()))
        same = next((n for n in sorted(shared) if _alike(shared[n], len(triples), kept[n][1])), None)
        if same is not None:
            kept[same][2].append(passage.id)
            continue
        for triple in triples:
            having.setdefault(triple, []).append(len(kept))
        kept.append((passage, len(triples), []))
    return tuple(replace(passage, duplicates=tuple(ids)) for passage, _, ids in kept)


def _triples(text: str) -> frozenset[str]:
    words = ["", *re.findall(r"\w+", text.casefold()), ""]
    return frozenset(" ".join(words[n : n + 3]) for n in range(max(1, len(words) - 2)))


def _alike(shared: int, some: int, others: int) -> bool:
    return shared >= NEAR_IDENTICAL * (some + others - shared)


def diverse(index: Index, inner: InnerProduct, hits: Sequence[Hit], k: int, progress: Progress) -> list[Hit]:
    """The hits with k proponents and k opponents so chosen that they do not repeat each other.

    A passage spreads the size of its score over itself and the passages of its side that are like it, in the
    measure of their cosine under the inner product; each of these counts the most that it is given by one of
    the set: facility location.  They come in the order in which they were chosen, the first as ever, each
    with what it adds (``adds``): its own score where it is like none before it, 0 where it repeats one.
    Fewer than k where no other adds anything.
    """
    most = max((len(hit.proponents) + len(hit.opponents) for hit in hits), default=1)
    size = max(1, TOGETHER // (most * index.dim))
    found: list[Hit] = []
    with progress.stage("diverse passages", len(hits), "queries") as advance:
        for start in range(0, len(hits), size):
            part = hits[start : start + size]
            rows = _rows(part)
            units = unit_rows(index.only(torch.tensor(rows)), inner, index.whitening)
            places = {row: place for place, row in enumerate(rows)}
            for hit in part:
                proponents = _chosen(hit.proponents, 1, units, places, k)
                opponents = _chosen(hit.opponents, -1, units, places, k)
                found.append(replace(hit, proponents=proponents, opponents=opponents))
                advance(1)
    return found


def _rows(hits: Sequence[Hit]) -> list[int]:
    """The rows of all passages of some hits, ascending."""
    return sorted({p.row for hit in hits for p in (*hit.proponents, *hit.opponents) if p.row is not None})


def _chosen(
    passages: Sequence[ScoredPassage], sign: int, units: Tensor, places: Mapping[int, int], k: int
) -> tuple[ScoredPassage, ...]:
    """k passages of one side; sign: of the scores that count on it."""
    if not passages:
        return ()
    own = units[[places[passage.row] for passage in passages if passage.row is not None]]
    spread = beyond_chance(cosines(own))
    influence = torch.tensor([sign * p.score for p in passages], dtype=torch.float64).clamp(min=0)
    found = choose(Support(spread * (influence / spread.sum(0))), Terms(k))
    pairs = zip(found.passages, found.gains, strict=True)
    return tuple(replace(passages[number], adds=gain) for number, gain in pairs)


def beyond_chance(alike: Tensor) -> Tensor:
    """Similarities [n, n] in [0, 1] of cosines: those that any two passages have by chance are 0."""
    apart = alike.masked_select(~torch.eye(len(alike), dtype=torch.bool)).abs()
    chance = min(0.5, CHANCE * MEDIANS * float(apart.median())) if len(apart) else 0.0
    return ((alike - chance) / (1 - chance)).clamp(min=0).fill_diagonal_(1.0)
