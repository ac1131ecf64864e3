"""A model trained a little further on some passages, as whoever selects data for it would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from proponent.attribute.probability import target_losses
from proponent.corpus.encoding import TextEncoder
from proponent.corpus.example import Query
from proponent.gradients.loading import load_tokenizer, load_weights
from proponent.gradients.model import LanguageModel
from proponent.gradients.placement import pick_device
from proponent.pretraining.passages import PadRight

EPOCHS, BATCH = 3, 16
BATCH_TOKENS = 2048  # of queries whose losses are taken together


@dataclass
class Continued:
    """A model whose training can be continued again and again from the same weights.

    AdamW without weight decay at a constant rate, EPOCHS passes, BATCH passages a step.
    """

    model: LanguageModel
    start: dict[str, Tensor]
    max_length: int

    @classmethod
    def load(cls, name: str, device: str | None, max_length: int) -> Continued:
        """The model of a folder or hub id; passages are cut at ``max_length`` tokens."""
        causal, _ = load_weights(name, trust_remote_code=False)
        where = pick_device(device)
        encoder = TextEncoder(load_tokenizer(name, trust_remote_code=False))
        model = LanguageModel(causal.to(where).requires_grad_(True), where, encoder, None)
        return cls(model, {k: v.detach().clone() for k, v in causal.state_dict().items()}, max_length)

    def losses(self, queries: Sequence[Query]) -> dict[str, float]:
        """−log p(target) in nats of each query, by id."""
        encoded = [self.model.encoder.query(query, self.max_length) for query in queries]
        found = target_losses(self.model, encoded, BATCH_TOKENS)
        return {query.id: nats for query, nats in zip(queries, found, strict=True)}

    def restart(self) -> None:
        """Go back to the weights of the beginning."""
        self.model.causal.load_state_dict(self.start)

    def train(self, texts: Sequence[str], rate: float, seed: int) -> None:
        """Train on passages, in an order that the seed decides; without any, do nothing."""
        if not texts:
            return
        rows = [np.array(self.model.encoder.passage(text, self.max_length), np.uint32) for text in texts]
        optimizer = torch.optim.AdamW(self.model.causal.parameters(), lr=rate, weight_decay=0.0)
        draw = torch.Generator().manual_seed(seed)
        for _ in range(EPOCHS):
            for members in torch.randperm(len(rows), generator=draw).split(BATCH):
                batch = PadRight(0)([rows[n] for n in members.tolist()])
                optimizer.zero_grad()
                given = {name: part.to(self.model.device) for name, part in batch.items()}
                self.model.causal(**given).loss.backward()
                optimizer.step()
