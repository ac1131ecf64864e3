"""Selection as it is defined: values of whole sets, every set tried, plain greedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import torch
from torch import Tensor

Value = Callable[[Sequence[int]], float]


def support_value(scores: Tensor, decay: float) -> Value:
    """Σ_q Σ_j decay^j times the j-th largest positive score of the set."""

    def value(members: Sequence[int]) -> float:
        total = 0.0
        for row in scores[:, list(members)].double().clamp(min=0).tolist():
            total += sum(decay**j * score for j, score in enumerate(sorted(row, reverse=True)))
        return total

    return value


def log_det_value(kernel: Tensor) -> Value:
    """log det(I + K_S)."""

    def value(members: Sequence[int]) -> float:
        part = kernel.double()[list(members)][:, list(members)]
        return float(torch.logdet(torch.eye(len(members), dtype=torch.float64) + part))

    return value


def best_set(value: Value, sets: Iterable[Sequence[int]]) -> float:
    """The largest value of any of the sets."""
    return max(map(value, sets))


def sets_of(n: int, budget: int) -> Iterable[tuple[int, ...]]:
    """All sets of ``budget`` of n passages; a monotone function has no better smaller one."""
    return combinations(range(n), min(n, budget))


def sets_within(groups: Sequence[str], each: int, budget: int) -> Iterable[tuple[int, ...]]:
    """All sets of up to ``budget`` passages with at most ``each`` of a group."""
    for size in range(1, budget + 1):
        for members in combinations(range(len(groups)), size):
            names = [groups[m] for m in members]
            if all(names.count(name) <= each for name in names):
                yield members


def plain_greedy(value: Value, n: int, budget: int) -> list[int]:
    """Each time the passage with the largest gain, of equals the first, until nothing is gained."""
    chosen: list[int] = []
    while len(chosen) < budget:
        gains = [-1.0 if m in chosen else value([*chosen, m]) - value(chosen) for m in range(n)]
        best = max(range(n), key=gains.__getitem__)
        if gains[best] <= 1e-12:
            break
        chosen.append(best)
    return chosen
