"""How much damping the data themselves ask for: shrinkage of R_train towards a multiple of the identity.

``R* = (1 − ρ) R + ρ μ I`` with μ the mean eigenvalue, so ``R + damping · μ I`` with
``damping = ρ / (1 − ρ)`` is R* but for a factor that scores with unit norm do not see.
Gradients are not centred: R is their second moment, and so are the formulas.
"""

from __future__ import annotations

from torch import Tensor

LARGEST = 0.999  # of ρ: with a single passage the formulas ask for all


def ledoit_wolf(block: Tensor, count: int, fourth: float) -> float:
    """ρ in [0, 0.999] of Ledoit & Wolf (2004, lemma 3.1 to 3.4), for one block R [w, w].

    count: features n that R is the mean over.  fourth: mean of ‖φ‖⁴ over them.
    The mean of ``‖φφᵀ − R‖²`` is ``fourth − ‖R‖²``, so no second pass over the features is needed.
    """
    squared, mean, width = _moments(block)
    spread = squared - width * mean**2  # ‖R − μI‖²
    noise = (fourth - squared) / count  # expected ‖R − E R‖²
    return _bounded(noise, spread)


def oas(block: Tensor, count: int) -> float:
    """ρ in [0, 0.999] of the oracle approximating shrinkage (Chen, Wiesel, Eldar & Hero, 2010, eq. 23).

    It takes features for Gaussian; gradients have heavier tails.
    """
    squared, mean, width = _moments(block)
    trace = mean * width
    above = (1 - 2 / width) * squared + trace**2
    below = (count + 1 - 2 / width) * (squared - trace**2 / width)
    return _bounded(above, below)


def _moments(block: Tensor) -> tuple[float, float, int]:
    """``‖R‖²``, the mean eigenvalue and the width."""
    return float(block.double().square().sum()), float(block.diagonal().double().mean()), len(block)


def _bounded(part: float, whole: float) -> float:
    return LARGEST if whole <= 0 else min(LARGEST, max(0.0, part / whole))
