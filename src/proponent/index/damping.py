"""Damping of R_train: a number, or shrinkage towards a multiple of the identity that the data ask for.

Gradients are not centred: R is their second moment, and so are the formulas of the rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from proponent.errors import InputError
from proponent.index.hessian import HessianBlock

# Of ρ: a few passages, or one, may make the formulas ask for all or nothing, which cannot be factored.
LARGEST, SMALLEST = 0.999, 1e-6


@dataclass(frozen=True)
class Damping:
    """``keep · R + ridge · μ I`` of one block, μ its mean eigenvalue; keep > 0, ridge > 0.

    A rule's shrinkage ρ keeps 1 − ρ, so that the block keeps its mean eigenvalue: blocks are scaled alike
    whatever their ρ, as a unit norm over all of them together needs.  A number keeps all of R.
    """

    keep: float
    ridge: float

    def pack(self) -> Tensor:
        """Both numbers [2] float64, for a file."""
        return torch.tensor([self.keep, self.ridge], dtype=torch.float64)

    @classmethod
    def unpack(cls, numbers: Tensor) -> Damping:
        """The inverse of ``pack``."""
        return cls(*numbers.tolist())


def damped_eigenvalues(eigenvalues: Tensor, damping: Tensor) -> Tensor:
    """Eigenvalues [w] of ``keep · R + ridge · μ I`` from those of R; damping: keep and ridge."""
    keep, ridge = map(float, damping)
    mean = float(eigenvalues.double().mean())
    return keep * eigenvalues + ridge * (mean if mean > 0 else 1.0)


def check_damping(damping: float | str) -> None:
    """Raise InputError for what is neither a positive number nor the name of a rule."""
    if damping in RULES or (isinstance(damping, int | float) and damping > 0 and math.isfinite(damping)):
        return
    raise InputError(f"damping is '{damping}'; give a positive number or one of {', '.join(RULES)}")


def damping_of(damping: float | str, block: HessianBlock) -> Damping:
    """The damping of one block by a number relative to its mean eigenvalue, or by a rule.

    Raises InputError as ``check_damping`` does.
    """
    check_damping(damping)
    if not isinstance(damping, str):
        return Damping(1.0, float(damping))
    share = RULES[damping](block)
    return Damping(1 - share, share)


def ledoit_wolf(block: HessianBlock) -> float:
    """ρ in [1e-6, 0.999] of Ledoit & Wolf (2004, lemma 3.1 to 3.4), for one block.

    The mean of ``‖φφᵀ − R‖²`` is ``fourth − ‖R‖²``, so no second pass over the features is needed.
    """
    squared, mean, width = _statistics(block)
    spread = squared - width * mean**2  # ‖R − μI‖²
    noise = (block.fourth - squared) / block.count  # expected ‖R − E R‖²
    return _bounded(noise, spread)


def oas(block: HessianBlock) -> float:
    """ρ in [1e-6, 0.999] of the oracle approximating shrinkage (Chen, Wiesel, Eldar & Hero, 2010, eq. 23).

    It takes features for Gaussian; gradients have heavier tails.
    """
    squared, mean, width = _statistics(block)
    trace = mean * width
    above = (1 - 2 / width) * squared + trace**2
    below = (block.count + 1 - 2 / width) * (squared - trace**2 / width)
    return _bounded(above, below)


def _statistics(block: HessianBlock) -> tuple[float, float, int]:
    """``‖R‖²``, the mean eigenvalue and the width."""
    squared = float(torch.linalg.vector_norm(block.matrix, dtype=torch.float64)) ** 2
    return squared, float(block.matrix.diagonal().double().mean()), len(block.matrix)


def _bounded(part: float, whole: float) -> float:
    return LARGEST if whole <= 0 else min(LARGEST, max(SMALLEST, part / whole))


RULES: dict[str, Callable[[HessianBlock], float]] = {"oas": oas, "ledoit-wolf": ledoit_wolf}
