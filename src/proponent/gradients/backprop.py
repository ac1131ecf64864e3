"""One forward and one backward over a padded batch, with only the logits that are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from proponent.gradients.model import LanguageModel
from proponent.gradients.outputs import OUTPUT_FUNCTIONS, OutputFunction
from proponent.gradients.placement import sent

# Logits at once: 8 MB; more where that is fewer than 128 rows, whose product waits for the matrix; but less
# than 32 MB, up to which the C library keeps a buffer for the next slice.
LOGIT_BUDGET, LOGIT_LIMIT, LOGIT_ROWS = 2**21, 2**23 - 2**10, 128


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

        A row is padded with its own last token, so that a broken embedding touches no other row.
        """
        lengths = torch.tensor([len(row) for row in rows])[:, None]
        longest = int(lengths.max())
        tokens = torch.tensor([[*row, *[row[-1]] * (longest - len(row))] for row in rows])
        place = torch.arange(longest)
        return cls(tokens, (place >= torch.tensor(starts)[:, None]) & (place < lengths))

    def scored(self) -> tuple[Tensor, Tensor]:
        """Row [m] and place [m] of each position that predicts a scored token; a card never has to count."""
        row, place = self.predicted[:, 1:].nonzero(as_tuple=True)
        return row, place


def backpropagate(model: LanguageModel, batch: Batch, output: str = "loss") -> None:
    """A forward and a backward pass of the output function, summed over all scored tokens of the batch.

    Logits exist for the positions that predict those alone, ``slice_rows`` of them at a time.
    """
    hidden, targets = predicting(model, batch)
    # slices of even size: a small last one would wait for the matrix as well
    slices = max(1, math.ceil(len(targets) / slice_rows(model.vocabulary)))
    parts = zip(hidden.detach().tensor_split(slices), targets.tensor_split(slices), strict=True)
    gradients = [_gradient(model, part, goals, OUTPUT_FUNCTIONS[output]) for part, goals in parts]
    hidden.backward(torch.cat(gradients))


def predicting(model: LanguageModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Hidden states [m, h] that predict the batch's scored tokens, and those tokens [m], row by row.

    The last column predicts nothing, so t - 1 positions are computed, or all t where the position factors
    depend on the length of the input.
    """
    tokens, width = sent(batch.tokens, model.device), batch.tokens.shape[1] - 1
    row, place = (sent(index, model.device) for index in batch.scored())
    given = tokens if model.position_break is not None else tokens[:, :width]
    return model.hidden(given)[row, place], tokens[row, place + 1]


def slice_rows(vocabulary: int) -> int:
    """Positions whose logits are computed at once, >= 1."""
    return max(1, LOGIT_BUDGET // vocabulary, min(LOGIT_ROWS, LOGIT_LIMIT // vocabulary))


def _gradient(model: LanguageModel, hidden: Tensor, targets: Tensor, output: OutputFunction) -> Tensor:
    """Gradient [m, h] of the summed output with respect to hidden states [m, h]."""
    leaf = hidden.requires_grad_()
    logits = model.logits(leaf)
    (gradient,) = torch.autograd.grad(logits, leaf, output.gradient(logits.detach(), targets))
    return gradient
