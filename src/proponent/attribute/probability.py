"""How probable a model finds the targets of queries."""

from __future__ import annotations

import math
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
    return [math.exp(-nats) for nats in target_losses(model, queries, batch_tokens)]


def target_losses(model: LanguageModel, queries: Sequence[EncodedQuery], batch_tokens: int) -> list[float]:
    """−log p(target) of each query in nats, summed over its target's tokens."""
    found = [0.0] * len(queries)
    for members in plain_batches(model, [len(q.tokens) for q in queries], batch_tokens):
        values = _batch_losses(model, [queries[n] for n in members])
        for n, value in zip(members, values, strict=True):
            found[n] = value
    return found


def batch_probabilities(model: LanguageModel, queries: Sequence[EncodedQuery]) -> list[float]:
    """The probabilities of queries in one batch, all on one side of the model's position break."""
    return [math.exp(-nats) for nats in _batch_losses(model, queries)]


@torch.no_grad()
def _batch_losses(model: LanguageModel, queries: Sequence[EncodedQuery]) -> list[float]:
    batch = Batch.of([q.tokens for q in queries], [q.boundary for q in queries])
    hidden, targets = predicting(model, batch)  # [m, h], [m]
    losses = loss(model.logits(hidden), targets).double()  # [m]
    totals = torch.zeros(len(queries), dtype=torch.float64, device=losses.device)
    rows = batch.predicted[:, 1:].nonzero()[:, 0].to(losses.device)
    return [float(nats) for nats in totals.index_add_(0, rows, losses)]
