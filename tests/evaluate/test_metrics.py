"""Metrics against cases worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proponent.evaluate.metrics import (
    estimate,
    hits_within,
    paired_difference,
    precisions,
    reciprocal_ranks,
)

CORRECT = [
    [True, False, True, False],  # gold first
    [False, False, True, False],  # gold third
    [False, False, False, False],  # never
    [],  # nothing retrieved
]


def test_reciprocal_rank_is_of_the_first_gold_passage() -> None:
    assert reciprocal_ranks(CORRECT) == [1.0, 1 / 3, 0.0, 0.0]


def test_hits_within_k() -> None:
    assert hits_within(CORRECT, 1) == [1.0, 0.0, 0.0, 0.0]
    assert hits_within(CORRECT, 3) == [1.0, 1.0, 0.0, 0.0]


def test_precision_divides_by_k_even_where_fewer_were_retrieved() -> None:
    assert precisions(CORRECT, 4) == [0.5, 0.25, 0.0, 0.0]
    assert precisions([[True]], 10) == [0.1]


def test_an_estimate_of_equal_values_has_no_width() -> None:
    found = estimate([0.25] * 7)
    assert (found.mean, found.low, found.high, found.queries) == (0.25, 0.25, 0.25, 7)


def test_the_interval_is_that_of_the_mean() -> None:
    values = [0.0, 1.0] * 200  # the mean of 400 has a standard error of 0.025
    found = estimate(values)
    assert found.mean == 0.5
    assert found.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.006)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.006)
    assert estimate(values) == found
    with pytest.raises(ValueError, match="nothing"):
        estimate([])


def test_differences_are_paired() -> None:
    ours, theirs = [0.0, 10.0, 100.0, 1000.0], [-1.0, 9.0, 99.0, 999.0]
    found = paired_difference(ours, theirs)
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)  # however far the queries are apart
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 2.0], [1.0])


@given(st.lists(st.lists(st.booleans(), max_size=8), min_size=1, max_size=20), st.integers(1, 8))
def test_bounds_hold(correct: list[list[bool]], k: int) -> None:
    for rank, hit, precision in zip(
        reciprocal_ranks(correct), hits_within(correct, k), precisions(correct, k), strict=True
    ):
        assert 0 <= precision <= hit <= 1
        assert (rank >= 1 / k) == (hit == 1)
