"""How much damping the data themselves ask for: shrinkage of R_train towards a multiple of the identity.

``R* = (1 − ρ) R + ρ μ I`` with μ the mean eigenvalue, so ``R + damping · μ I`` with
``damping = ρ / (1 − ρ)`` is R* but for a factor that scores with unit norm do not see.
Gradients are not centred: R is their second moment, and so are the formulas.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from proponent.index.hessian import Hessian

# Of ρ: a few passages, or one, may make the formulas ask for all or nothing, which cannot be factored.
LARGEST, SMALLEST = 0.999, 1e-6


def dampings(damping: float | str, hessian: Hessian) -> Tensor:
    """The damping of each block [b] of R, relative to its mean eigenvalue, float64.

    damping: a number, or the name of a rule.
    """
    if not isinstance(damping, str):
        return torch.full((len(hessian.blocks),), float(damping), dtype=torch.float64)
    rule, fourth = RULES[damping], hessian.fourth.tolist()
    shares = [rule(block, hessian.count, f) for block, f in zip(hessian.blocks, fourth, strict=True)]
    return torch.tensor([share / (1 - share) for share in shares], dtype=torch.float64)


def ledoit_wolf(block: Tensor, count: int, fourth: float) -> float:
    """ρ in [1e-6, 0.999] of Ledoit & Wolf (2004, lemma 3.1 to 3.4), for one block R [w, w].

    count: features n that R is the mean over.  fourth: mean of ‖φ‖⁴ over them.
    The mean of ``‖φφᵀ − R‖²`` is ``fourth − ‖R‖²``, so no second pass over the features is needed.
    """
    squared, mean, width = _moments(block)
    spread = squared - width * mean**2  # ‖R − μI‖²
    noise = (fourth - squared) / count  # expected ‖R − E R‖²
    return _bounded(noise, spread)


def oas(block: Tensor, count: int, _: float) -> float:
    """ρ in [1e-6, 0.999] of the oracle approximating shrinkage (Chen, Wiesel, Eldar & Hero, 2010, eq. 23).

    It takes features for Gaussian; gradients have heavier tails.
    """
    squared, mean, width = _moments(block)
    trace = mean * width
    above = (1 - 2 / width) * squared + trace**2
    below = (count + 1 - 2 / width) * (squared - trace**2 / width)
    return _bounded(above, below)


def _moments(block: Tensor) -> tuple[float, float, int]:
    """``‖R‖²``, the mean eigenvalue and the width."""
    squared = float(torch.linalg.vector_norm(block, dtype=torch.float64)) ** 2
    return squared, float(block.diagonal().double().mean()), len(block)


def _bounded(part: float, whole: float) -> float:
    return LARGEST if whole <= 0 else min(LARGEST, max(SMALLEST, part / whole))


RULES: dict[str, Callable[[Tensor, int, float], float]] = {"oas": oas, "ledoit-wolf": ledoit_wolf}
