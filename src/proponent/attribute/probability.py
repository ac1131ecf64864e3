"""How probable a model finds the targets of queries."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from proponent.corpus.example import EncodedQuery
from proponent.gradients.backprop import Batch, predicting
from proponent.gradients.lanes import plain_batches
from proponent.gradients.model import LanguageModel
from proponent.gradients.outputs import loss


def target_probabilities(
    model: LanguageModel, queries: Sequence[EncodedQuery], batch_tokens: int
) -> list[float]:
    """p(target) of each query: the probability of all its target's tokens, given the prompt."""
    found = [0.0] * len(queries)
    for members in plain_batches(model, [len(q.tokens) for q in queries], batch_tokens):
        values = batch_probabilities(model, [queries[n] for n in members])
        for n, value in zip(members, values, strict=True):
            found[n] = value
    return found


@torch.no_grad()
def batch_probabilities(model: LanguageModel, queries: Sequence[EncodedQuery]) -> list[float]:
    """The same of queries in one batch, all on one side of the model's position break."""
    batch = Batch.of([q.tokens for q in queries], [q.boundary for q in queries])
    hidden, targets = predicting(model, batch)  # [m, h], [m]
    losses = loss(model.logits(hidden), targets).double()  # [m]
    totals = torch.zeros(len(queries), dtype=torch.float64, device=losses.device)
    rows = batch.predicted[:, 1:].nonzero()[:, 0].to(losses.device)
    return [float(p) for p in (-totals.index_add_(0, rows, losses)).exp()]
