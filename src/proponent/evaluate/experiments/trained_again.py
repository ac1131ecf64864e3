"""A study whose run has a model that ``pretrain`` made, so that it can be trained again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from proponent.attribute.probability import target_probabilities
from proponent.evaluate.experiments.facts_study import FactsStudy
from proponent.evaluate.retraining import Retraining
from proponent.pretraining.again import Recipe

KNOWN = 0.5  # p(target) from which a model knows a fact
MIX = 0.9  # λ of a task mix on white features
WIDER = 2**17  # a dimension beside the run's own
WHITE = {"second_moment": "kronecker", "hessian": "identity"}


@dataclass
class TrainedAgain(FactsStudy):
    """Facts, and models trained again on parts of the run's passages.

    Raises InputError for a model without a record of its training.
    """

    @cached_property
    def retraining(self) -> Retraining:
        """The run's model and passages, ready to be trained again; what is known is in ``truth.jsonl``."""
        spec, path = self.tracer.spec, self.folder / "truth.jsonl"
        return Retraining(
            Recipe.of(spec.model), tuple(self.passages), tuple(self.queries), spec.max_length, path
        )

    @cached_property
    def known(self) -> list[str]:
        """Ids of the facts that the run's model knows."""
        model, spec = self.tracer.model, self.tracer.spec
        encoded = [model.encoder.query(query, spec.max_length) for query in self.queries]
        p = target_probabilities(model, encoded, spec.batch_tokens)
        return [query.id for query, value in zip(self.queries, p, strict=True) if value >= KNOWN]

    def white(self, dim: int) -> Path:
        """The run with Kronecker moments and so many dimensions."""
        return self.variants([{**WHITE, "dim": dim}])[0]
