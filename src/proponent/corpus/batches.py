"""Batches of like length: much text in a batch, little padding."""

from __future__ import annotations

from collections.abc import Sequence


def batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group examples so that rows × longest row of a batch stays within the token budget.

    lengths: tokens of each example.  Returns indices into `lengths`, each exactly once, longest examples
    first: the largest demand for memory comes at once and not after hours. Examples of equal length keep
    their order. An example longer than the budget is a batch of its own.
    """
    if token_budget < 1:
        raise ValueError(f"a token budget of {token_budget} holds no token")
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    made: list[list[int]] = []
    start = 0
    while start < len(order):
        rows = max(1, token_budget // max(1, lengths[order[start]]))
        made.append(order[start : start + rows])
        start += rows
    return made
