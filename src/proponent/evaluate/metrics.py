"""Retrieval metrics: pure functions of ranked correctness, arrays in and floats out."""

from __future__ import annotations

from collections.abc import Sequence

Ranked = Sequence[Sequence[bool]]


def reciprocal_ranks(correct: Ranked) -> list[float]:
    """1 / rank of the first gold passage of each query, ranks from 1; 0 where none was retrieved.

    correct: for each query, whether each retrieved passage is gold, best first.
    """
    return [next((1 / rank for rank, gold in enumerate(row, 1) if gold), 0.0) for row in correct]


def hits_within(correct: Ranked, k: int) -> list[float]:
    """1 for each query with a gold passage among its first k, else 0; their mean is Recall@k."""
    return [float(any(row[:k])) for row in correct]


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0
