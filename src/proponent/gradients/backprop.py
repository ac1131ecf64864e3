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
    """Run the batch forward and backward; whoever captures the model's layers sees both.

    The scalar that is differentiated is the output function summed over all scored tokens.  Logits exist
    for the positions that predict those alone, ``slice_rows`` of them at a time.
    """
    hidden, targets = predicting(model, batch)
    # of even size: a rest of a few rows would wait for the matrix as well
    slices = max(1, math.ceil(len(targets) / slice_rows(model.vocabulary)))
    parts = zip(hidden.detach().tensor_split(slices), targets.tensor_split(slices), strict=True)
    gradients = [_gradient(model, part, goals, OUTPUT_FUNCTIONS[output]) for part, goals in parts]
    hidden.backward(torch.cat(gradients))


def predicting(model: LanguageModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Hidden states [m, h] that predict the batch's scored tokens, and those tokens [m], row by row.

    A token is predicted from the position before it, so the last column is never read and t - 1 positions
    are computed; t of them where the position factors depend on the length that the model is given.
    """
    tokens = batch.tokens.to(model.device)
    scored = batch.predicted.to(model.device)[:, 1:]
    width = tokens.shape[1] - 1
    given = tokens if model.position_break is not None else tokens[:, :width]
    return model.hidden(given)[:, :width][scored], tokens[:, 1:][scored]


def slice_rows(vocabulary: int) -> int:
    """Positions whose logits are computed at once, 1 or more, for a vocabulary of so many tokens."""
    return max(1, LOGIT_BUDGET // vocabulary, min(LOGIT_ROWS, LOGIT_LIMIT // vocabulary))


def _gradient(model: LanguageModel, hidden: Tensor, targets: Tensor, output: OutputFunction) -> Tensor:
    """Gradient [m, h] of the summed output with respect to hidden states [m, h]."""
    leaf = hidden.requires_grad_()
    logits = model.logits(leaf)
    (gradient,) = torch.autograd.grad(logits, leaf, output.gradient(logits.detach(), targets))
    return gradient
