"""How probable a model finds the targets of queries."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from proponent.corpus.batches import batches
from proponent.corpus.example import EncodedQuery
from proponent.gradients.backprop import Batch
from proponent.gradients.model import LanguageModel
from proponent.gradients.outputs import loss


def target_probabilities(
    model: LanguageModel, queries: Sequence[EncodedQuery], batch_tokens: int
) -> list[float]:
    """p(target) of each query: the probability of all its target's tokens, given the prompt."""
    found = [0.0] * len(queries)
    for members in batches([len(q.tokens) for q in queries], batch_tokens):
        for n, value in zip(members, batch_probabilities(model, [queries[n] for n in members]), strict=True):
            found[n] = value
    return found


@torch.no_grad()
def batch_probabilities(model: LanguageModel, queries: Sequence[EncodedQuery]) -> list[float]:
    """The same of queries laid in one batch."""
    batch = Batch.of([q.tokens for q in queries], [q.boundary for q in queries])
    scored = batch.predicted[:, 1:].to(model.device)  # [n, t-1]
    tokens = batch.tokens.to(model.device)  # [n, t]
    hidden = model.hidden(tokens[:, :-1])[scored]  # [m, h]
    losses = loss(model.logits(hidden), tokens[:, 1:][scored]).double()  # [m]
    totals = torch.zeros(len(queries), dtype=torch.float64, device=losses.device)
    return [float(p) for p in (-totals.index_add_(0, scored.nonzero()[:, 0], losses)).exp()]
