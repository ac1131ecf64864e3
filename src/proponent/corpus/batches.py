"""Batches of like length: much text in a batch, little padding."""

from __future__ import annotations

from collections.abc import Sequence

# A batch that is a quarter full ends where the next row is 8% shorter than its longest: on sentences of a
# hundred tokens or less that takes away more padding than smaller matrix products cost.
RAGGED, FULL_ENOUGH = 0.08, 0.25


def batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group examples so that rows × longest row of a batch stays within the token budget.

    lengths: tokens of each example.  Returns indices into `lengths`, each exactly once, longest examples
    first. Examples of equal length keep their order. An example longer than the budget is a batch of its own,
    and a batch that holds enough ends where rows become shorter (``RAGGED``, ``FULL_ENOUGH``).
    """
    if token_budget < 1:
        raise ValueError(f"a token budget of {token_budget} holds no token")
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    made: list[list[int]] = []
    for index in order:
        if not made or _ends(made[-1], index, lengths, token_budget):
            made.append([])
        made[-1].append(index)
    return made


def _ends(batch: list[int], following: int, lengths: Sequence[int], budget: int) -> bool:
    """Whether a batch ends before the next, shorter row."""
    longest = lengths[batch[0]]
    full = (len(batch) + 1) * longest > budget
    ragged = lengths[following] < (1 - RAGGED) * longest
    return full or (ragged and len(batch) * longest >= FULL_ENOUGH * budget)
