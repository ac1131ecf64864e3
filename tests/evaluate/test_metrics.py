"""Metrics against cases worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proponent.evaluate.metrics import (
    average_precisions,
    estimate,
    hits_within,
    paired_difference,
    precisions,
    recalls,
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


def test_recall_is_the_share_of_a_querys_gold_passages() -> None:
    assert recalls(CORRECT, [2, 4, 1, 3], 3) == [1.0, 0.25, 0.0, 0.0]
    assert recalls(CORRECT, [2, 4, 1, 3], 1) == [0.5, 0.0, 0.0, 0.0]


def test_average_precision_counts_missed_gold_as_nothing() -> None:
    assert average_precisions([[True, False, True, False]], [2]) == [pytest.approx((1 / 1 + 2 / 3) / 2)]
    assert average_precisions([[True, False, True, False]], [4]) == [pytest.approx((1 / 1 + 2 / 3) / 4)]
    assert average_precisions([[True, True]], [2]) == [1.0]
    assert average_precisions([[], [False]], [1, 1]) == [0.0, 0.0]
    with pytest.raises(ValueError, match="longer"):
        average_precisions([[True]], [1, 2])


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 5), st.integers(0, 30))
def test_average_precision_is_the_area_under_the_curve(row: list[bool], missed: int, cut: int) -> None:
    """Against the definition: precision at each rank, times the recall that this rank adds."""
    gold = sum(row) + missed
    if not gold:
        return
    area, before = 0.0, 0.0
    for rank in range(1, len(row) + 1):
        recall = sum(row[:rank]) / gold
        area += (recall - before) * sum(row[:rank]) / rank
        before = recall
    (found,) = average_precisions([row], [gold])
    assert found == pytest.approx(area)
    assert average_precisions([row[:cut]], [gold])[0] <= found + 1e-12  # a cut list bounds it from below
