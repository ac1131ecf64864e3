"""A study whose run has a model that ``pretrain`` made, so that it can be trained again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from proponent.evaluate.experiments.facts_study import FactsStudy
from proponent.evaluate.retraining import Retraining
from proponent.pretraining.again import Recipe


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
