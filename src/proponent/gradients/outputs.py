"""Output functions: what of the model's prediction the gradient is taken of (DESIGN 1.8).

Each comes with its gradient in closed form.  Autograd would find the same, in several passes over logits
that are far wider than anything else in a small model; the closed form takes one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class OutputFunction(NamedTuple):
    """value: [m] of logits [m, v] and targets [m].  gradient: of the values' sum, for the logits, [m, v]."""

    value: Callable[[Tensor, Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor], Tensor]


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-probability ``−log p`` [m] of targets [m] under logits [m, v]."""
    return torch.logsumexp(logits, -1) - logit_of(logits, targets)


def margin(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative margin ``−log(p / (1 − p))`` [m], stable for p near 1 (Park et al., TRAK, eq. 5).

    Negated, like every output here: all fall as the prediction improves, so a positive score means the same
    where gradients of two outputs meet.
    """
    return torch.logsumexp(_others(logits, targets), -1) - logit_of(logits, targets)


def logit(logits: Tensor, targets: Tensor) -> Tensor:
    """The target token's raw logit, negated, [m]."""
    return -logit_of(logits, targets)


def logit_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Entries [m] of logits [m, v] at targets [m]."""
    return logits.gather(-1, targets[:, None])[:, 0]


def loss_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """``softmax(logits) − onehot(targets)`` [m, v]."""
    return _less_one(logits.softmax(-1), targets)


def margin_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """The softmax of the others, and −1 at the target, [m, v]."""
    return _less_one(_others(logits, targets).softmax(-1), targets)


def logit_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """−1 at the target and 0 elsewhere, [m, v]."""
    return _less_one(torch.zeros_like(logits), targets)


def _others(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.scatter(-1, targets[:, None], float("-inf"))


def _less_one(values: Tensor, targets: Tensor) -> Tensor:
    """Values [m, v] with 1 taken away at the targets [m], in place."""
    return values.scatter_add_(-1, targets[:, None], values.new_full((len(targets), 1), -1))


OUTPUT_FUNCTIONS = {
    "loss": OutputFunction(loss, loss_gradient),
    "margin": OutputFunction(margin, margin_gradient),
    "logit": OutputFunction(logit, logit_gradient),
}
