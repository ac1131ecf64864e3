"""Output functions: what of the model's prediction the gradient is taken of (DESIGN 1.8)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

OutputFunction = Callable[[Tensor, Tensor], Tensor]


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-probability ``−log p`` [m] of targets [m] under logits [m, v]."""
    return torch.logsumexp(logits, -1) - logit_of(logits, targets)


def margin(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative margin ``−log(p / (1 − p))`` [m], stable for p near 1 (Park et al., TRAK, eq. 5).

    Negated, like every output here, so that all fall as the prediction improves and gradients of one
    output may meet gradients of another with the same meaning of a positive score.
    """
    others = logits.scatter(-1, targets[:, None], float("-inf"))
    return torch.logsumexp(others, -1) - logit_of(logits, targets)


def logit(logits: Tensor, targets: Tensor) -> Tensor:
    """The target token's raw logit, negated, [m]."""
    return -logit_of(logits, targets)


def logit_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Entries [m] of logits [m, v] at targets [m]."""
    return logits.gather(-1, targets[:, None])[:, 0]


OUTPUT_FUNCTIONS: dict[str, OutputFunction] = {"loss": loss, "margin": margin, "logit": logit}
