from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proponent.corpus import batches
from proponent.corpus.batches import FULL_ENOUGH, RAGGED

LENGTHS = st.lists(st.integers(1, 60))
BUDGETS = st.integers(1, 200)


def test_a_case_by_hand() -> None:
    # by length: 9 | 5 5 (two rows of 5 in 12) | 4 (3 is a quarter shorter, and 4 of 12 is enough) | 3 | 2 1
    assert batches([5, 1, 9, 4, 5, 3, 2], token_budget=12) == [[2], [0, 4], [3], [5], [6, 1]]
    # 49 48 47 are alike; 20 is much shorter, and 3 x 49 is more than a quarter of 400
    assert batches([48, 20, 49, 47, 20], token_budget=400) == [[2, 0, 3], [1, 4]]
    # 30 and 2 x 30 are less than a quarter of 400
    assert batches([30, 20, 19], token_budget=400) == [[0, 1, 2]]
    assert batches([], token_budget=12) == []
    with pytest.raises(ValueError, match="token budget of 0"):
        batches([1], token_budget=0)


@given(LENGTHS, BUDGETS)
def test_every_example_is_in_one_batch(lengths: list[int], budget: int) -> None:
    made = batches(lengths, budget)
    assert sorted(index for batch in made for index in batch) == list(range(len(lengths)))
    assert made == batches(lengths, budget)


@given(LENGTHS, BUDGETS)
def test_the_budget_holds_unless_one_example_breaks_it(lengths: list[int], budget: int) -> None:
    for batch in batches(lengths, budget):
        assert batch
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


@given(LENGTHS, BUDGETS)
def test_no_batch_holds_less_than_it_could(lengths: list[int], budget: int) -> None:
    """Lengths fall from batch to batch; a batch is full, or full enough and the next row is shorter."""
    for batch, following in pairwise(batches(lengths, budget)):
        longest, after = lengths[batch[0]], lengths[following[0]]
        assert min(lengths[index] for index in batch) >= after
        full = (len(batch) + 1) * longest > budget
        assert full or (len(batch) * longest >= FULL_ENOUGH * budget and after < (1 - RAGGED) * longest)


@given(st.lists(st.integers(1, 60), min_size=1), st.integers(60, 400))
def test_padding_is_small(lengths: list[int], budget: int) -> None:
    """Padding telescopes: over all batches, rows fall from the longest length to the shortest once."""
    made = batches(lengths, budget)
    padding = sum(lengths[batch[0]] - lengths[index] for batch in made for index in batch)
    fall = max(lengths) - min(lengths)
    assert padding <= max(len(batch) for batch in made) * fall
