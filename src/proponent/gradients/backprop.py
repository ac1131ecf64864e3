"""One forward and one backward over a padded batch, with only the logits that are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from proponent.gradients.model import LanguageModel
from proponent.gradients.outputs import OUTPUT_FUNCTIONS, OutputFunction

# Logits at once: 8 MB, or more where that is few rows, whose product with so large a matrix waits for the
# matrix; but less than 32 MB, up to which the C library keeps a buffer for the next slice.
LOGIT_BUDGET, LOGIT_LIMIT = 2**21, 2**23 - 2**10
LOGIT_ROWS = 128


@dataclass(frozen=True)
class Batch:
    """Rows of token ids, padded on the right.

    tokens: [n, t].  predicted: [n, t] bool, true where the token is one that the output function scores.
    """

    tokens: Tensor
    predicted: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> Batch:
        """Pad rows; row n is scored on its tokens from ``starts[n]`` (>= 1) to its end.

        A row is padded with its own last token: where that token's embedding is broken, so that zero
        gradients meet infinite inputs, no other row is touched.
        """
        longest = max(len(row) for row in rows)
        tokens = torch.empty(len(rows), longest, dtype=torch.long)
        predicted = torch.zeros(len(rows), longest, dtype=torch.bool)
        for n, (row, start) in enumerate(zip(rows, starts, strict=True)):
            tokens[n] = row[-1]
            tokens[n, : len(row)] = torch.tensor(row)
            predicted[n, start : len(row)] = True
        return cls(tokens, predicted)


def backpropagate(model: LanguageModel, batch: Batch, output: str = "loss") -> None:
    """Run the batch forward and back; whoever captures the model's layers sees both.

    The scalar that is differentiated is the output function summed over all scored tokens.  A token
    is predicted from the position before it, so the last column is never read and t - 1 positions are
    computed; logits exist for the scored ones alone, ``slice_rows`` of them at a time.
    """
    tokens = batch.tokens.to(model.device)
    scored = batch.predicted.to(model.device)[:, 1:]
    hidden = model.hidden(tokens[:, :-1])[scored]  # [m, h]
    targets = tokens[:, 1:][scored]  # [m]
    # of even size: a rest of a few rows would wait for the matrix as well
    slices = max(1, math.ceil(len(targets) / slice_rows(model.vocabulary)))
    parts = zip(hidden.detach().tensor_split(slices), targets.tensor_split(slices), strict=True)
    slopes = [_slope(model, part, aims, OUTPUT_FUNCTIONS[output]) for part, aims in parts]
    hidden.backward(torch.cat(slopes))


def slice_rows(vocabulary: int) -> int:
    """Positions whose logits are computed at once, 1 or more, for a vocabulary of so many tokens."""
    return max(1, LOGIT_BUDGET // vocabulary, min(LOGIT_ROWS, LOGIT_LIMIT // vocabulary))


def _slope(model: LanguageModel, hidden: Tensor, targets: Tensor, output: OutputFunction) -> Tensor:
    """Gradient [m, h] of the summed output with respect to hidden states [m, h]."""
    leaf = hidden.requires_grad_()
    logits = model.logits(leaf)
    (slope,) = torch.autograd.grad(logits, leaf, output.slope(logits.detach(), targets))
    return slope
