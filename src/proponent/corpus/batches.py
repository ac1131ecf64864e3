"""Batches of like length: much text in a batch, little padding."""

from __future__ import annotations

from collections.abc import Sequence

# A batch that is a quarter full ends where the next row is 8% shorter than its longest: on sentences of a
# hundred tokens or less that takes away more padding than smaller matrix products cost.
RAGGED, FULL_ENOUGH = 0.08, 0.25


def batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group examples so that rows × longest row of a batch stays within the token budget.

    lengths: tokens of each example.  Returns indices into `lengths`, each exactly once, longest examples
    first and those of equal length in their order. An example longer than the budget is a batch of its own,
    and a batch that holds enough ends where rows become shorter (``RAGGED``, ``FULL_ENOUGH``).
    """
    if token_budget < 1:
        raise ValueError(f"a token budget of {token_budget} holds no token")
    made: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        held = len(made[-1]) * longest if made else 0
        ragged = lengths[index] < (1 - RAGGED) * longest
        full = held + longest > token_budget or (ragged and held >= FULL_ENOUGH * token_budget)
        if full or not made:
            made.append([])
            longest = lengths[index]
        made[-1].append(index)
    return made
