"""Retrieval metrics and their uncertainty: pure functions, arrays in and floats out.

``correct`` is always, for each query, whether each retrieved passage is gold, best first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ranked = Sequence[Sequence[bool]]
RESAMPLES = 2000
CHUNK = 200


@dataclass(frozen=True)
class Estimate:
    """A mean over queries with its 95% bootstrap interval, and the number of queries."""

    mean: float
    low: float
    high: float
    queries: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def reciprocal_ranks(correct: Ranked) -> list[float]:
    """1 / rank of the first gold passage of each query, ranks from 1; 0 where none was retrieved.

    Their mean is the MRR.  A tie in score is broken by the order of the list, as it was retrieved.
    """
    return [next((1 / rank for rank, gold in enumerate(row, 1) if gold), 0.0) for row in correct]


def hits_within(correct: Ranked, k: int) -> list[float]:
    """1 for each query with a gold passage among its first k, else 0; their mean is Recall@k."""
    return [float(any(row[:k])) for row in correct]


def precisions(correct: Ranked, k: int) -> list[float]:
    """Share of gold passages among the first k of each query; a list shorter than k counts as k long."""
    return [sum(row[:k]) / k for row in correct]


def recalls(correct: Ranked, gold: Sequence[int], k: int) -> list[float]:
    """Share of each query's gold passages that are among its first k; their mean is DATE-LM's Recall@k.

    correct: no passage twice.  gold: how many passages of each query are, >= 1, retrieved or not.
    """
    return [sum(row[:k]) / of for row, of in zip(correct, gold, strict=True)]


def average_precisions(correct: Ranked, gold: Sequence[int]) -> list[float]:
    """Average precision of each query, the area under its precision-recall curve in steps (AUPRC):

        AP = 1/g Σ_r [passage at rank r is gold] · (gold among the first r) / r,   g all its gold passages

    correct and gold as in `recalls`.  A tie in score is broken by the order of the list; the curve is not
    interpolated.  A gold passage that was not retrieved adds 0, as if it came last of infinitely many: of a
    list cut at some rank this is a lower bound of the whole ranking's value.
    """
    return [
        sum(found / rank for found, rank in enumerate(_ranks(row), 1)) / of
        for row, of in zip(correct, gold, strict=True)
    ]


def _ranks(row: Sequence[bool]) -> list[int]:
    """Ranks of the gold passages, from 1."""
    return [rank for rank, correct in enumerate(row, 1) if correct]


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """Mean of one value a query, with the percentile bootstrap's 95% interval; ValueError for no values."""
    if not values:
        raise ValueError("nothing to take the mean of")
    sample, draw = np.asarray(values, dtype=np.float64), np.random.default_rng(seed)
    chunks = (draw.integers(0, len(sample), (CHUNK, len(sample))) for _ in range(RESAMPLES // CHUNK))
    low, high = np.quantile([sample[chunk].mean(axis=1) for chunk in chunks], [0.025, 0.975])
    return Estimate(float(sample.mean()), float(low), float(high), len(sample))


def paired_difference(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Estimate:
    """Mean of ours − theirs, queries resampled in pairs; ValueError where one has more values."""
    return estimate([a - b for a, b in zip(ours, theirs, strict=True)], seed)


def spearman(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Spearman's rank correlation in [-1, 1]; ties have their mean rank, and a constant side gives 0.

    ValueError for sides of unequal length.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} values beside {len(theirs)}")
    ranks = [_mean_ranks(np.asarray(side, dtype=np.float64)) for side in (ours, theirs)]
    centred = [side - side.mean() for side in ranks]
    size = float(np.linalg.norm(centred[0]) * np.linalg.norm(centred[1]))
    return float(centred[0] @ centred[1]) / size if size else 0.0


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)  # rank of the last of each distinct value
    return np.asarray((last - (counts - 1) / 2)[places])
