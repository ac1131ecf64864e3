"""Truth: models trained again on parts of the corpus, and how probable each then finds the targets.

Several are trained side by side, a process and a thread each, so that the result does not depend on how many
there are; what is known is kept, a line a training, and an interrupted retraining goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from proponent.attribute.probability import target_losses
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example, Query
from proponent.errors import InputError
from proponent.evaluate.lines import GrowingFile
from proponent.gradients.model import load_model
from proponent.pretraining.again import Recipe, retrain
from proponent.progress import Progress

BATCH_TOKENS = 4096  # of queries whose losses are taken together
DIGITS = 4  # of a log-probability in the file


@dataclass(frozen=True)
class Training:
    """A training on all passages but some.

    name: unlike those of others.  without: numbers of the passages that are left out.  seed: of the training.
    """

    name: str
    without: frozenset[int]
    seed: int

    @property
    def digest(self) -> str:
        """Of what it leaves out."""
        numbers = ",".join(map(str, sorted(self.without)))
        return hashlib.sha256(numbers.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Retraining:
    """What a model that is trained again by its recipe says to the queries.

    passages: the corpus, in order.  max_length: of a query, in tokens.  path: of the file of what is known.
    """

    recipe: Recipe
    passages: tuple[Example, ...]
    queries: tuple[Query, ...]
    max_length: int
    path: Path

    def log_probabilities(
        self, trainings: Sequence[Training], progress: Progress
    ) -> dict[Training, list[float]]:
        """log p(target) in nats of every query, after each training; those that are not known are trained.

        Raises InputError for a file whose lines are of other trainings of the same names.
        """
        file = GrowingFile(self.path, "training", "log-probabilities after retraining")
        with file.held():
            known = self._known(file, trainings)
            missing = [training for training in trainings if training not in known]
            if missing:
                with file.appending() as append, progress.stage("retraining", len(missing), "models") as done:
                    for training, found in zip(missing, self._train(missing), strict=True):
                        known[training] = found
                        append({"training": training.name, "without": training.digest, "log_p": found})
                        done(1)
        return {training: known[training] for training in trainings}

    def _known(self, file: GrowingFile, trainings: Iterable[Training]) -> dict[Training, list[float]]:
        by_name: Mapping[str, Training] = {training.name: training for training in trainings}
        known: dict[Training, list[float]] = {}
        for number, record in file.records():
            if (training := by_name.get(record.get("training", ""))) is None:
                continue
            if record.get("without") != training.digest or len(record.get("log_p", ())) != len(self.queries):
                raise InputError(
                    f"{self.path}:{number}: '{training.name}' was trained on other passages or asked other "
                    "queries; remove the file, or use the run and the facts that it is of"
                )
            known[training] = record["log_p"]
        return known

    def _train(self, trainings: Sequence[Training]) -> Iterator[list[float]]:
        workers = min(torch.get_num_threads(), len(trainings))
        given = (self.recipe, self.passages, self.queries, self.max_length)
        with ProcessPoolExecutor(workers, get_context("spawn"), _Worker.start, given) as pool:
            yield from pool.map(_Worker.train, [(t.without, t.seed) for t in trainings])


class _Worker:
    """A process that trains one model after another."""

    given: tuple[Recipe, tuple[Example, ...], tuple[Query, ...], int]

    @classmethod
    def start(cls, *given: object) -> None:
        torch.set_num_threads(1)
        cls.given = given  # type: ignore[assignment]

    @classmethod
    def train(cls, training: tuple[frozenset[int], int]) -> list[float]:
        recipe, passages, queries, max_length = cls.given
        without, seed = training
        kept = [passage for number, passage in enumerate(passages) if number not in without]
        with TemporaryDirectory() as folder:
            retrain(recipe, Corpus.of(kept), Path(folder), seed)
            model = load_model(folder, "cpu")
            encoded = [model.encoder.query(query, max_length) for query in queries]
            losses = target_losses(model, encoded, BATCH_TOKENS)
        return [round(-nats, DIGITS) for nats in losses]
