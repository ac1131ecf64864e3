"""Truth: models trained again on parts of the corpus, and how probable each then finds the targets.

Several are trained side by side, a process and a thread each, so that the result does not depend on how many
there are; what is known is kept, a line a training, and an interrupted retraining goes on.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from proponent.attribute.probability import target_losses
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example, Query
from proponent.crew import end_with_parent
from proponent.errors import InputError
from proponent.evaluate.lines import GrowingFile, number, text
from proponent.gradients.model import load_model
from proponent.pretraining.again import Recipe, retrain
from proponent.progress import Progress

BATCH_TOKENS = 4096  # of queries whose losses are taken together
DIGITS = 4  # of a log-probability in the file
MODELS = ".models-"  # what the names of folders begin with in which models are trained


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
        file = self._file
        with file.held():
            known = self.known(trainings)
            missing = [training for training in trainings if training not in known]
            if missing:
                with file.appending() as append, progress.stage("retraining", len(missing), "models") as done:
                    for training, found in zip(missing, self._train(missing), strict=True):
                        known[training] = found
                        append({"training": training.name, "without": training.digest, "log_p": found})
                        done(1)
        return {training: known[training] for training in trainings}

    def known(self, trainings: Iterable[Training]) -> dict[Training, list[float]]:
        """What the file has of some trainings; errors as above, and for a file of something else."""
        by_name: Mapping[str, Training] = {training.name: training for training in trainings}
        known: dict[Training, list[float]] = {}
        for line, (name, without, log_p) in self._file.records(_truth):
            if (training := by_name.get(name)) is None:
                continue
            if without != training.digest or len(log_p) != len(self.queries):
                raise InputError(
                    f"{self.path}:{line}: '{training.name}' was trained on other passages or asked other "
                    "queries; remove the file, or use the run and the facts that it is of"
                )
            known[training] = log_p
        return known

    @property
    def _file(self) -> GrowingFile:
        return GrowingFile(self.path, "training", "log-probabilities after retraining")

    def _train(self, trainings: Sequence[Training]) -> Iterator[list[float]]:
        workers = min(torch.get_num_threads(), len(trainings))
        for left in self.path.parent.glob(f"{MODELS}*"):  # by one that was killed
            shutil.rmtree(left)
        with TemporaryDirectory(prefix=MODELS, dir=self.path.parent) as models:
            given = (self.recipe, self.passages, self.queries, self.max_length, models)
            with ProcessPoolExecutor(workers, get_context("spawn"), _Worker.start, given) as pool:
                yield from pool.map(_Worker.train, [(t.without, t.seed) for t in trainings])


def _truth(record: Mapping[str, Any]) -> tuple[str, str, list[float]]:
    """A training's name, the digest of what it left out, and log p of each query."""
    return text(record["training"]), text(record["without"]), [*map(number, record["log_p"])]


class _Worker:
    """A process that trains one model after another."""

    given: tuple[Recipe, tuple[Example, ...], tuple[Query, ...], int, str]

    @classmethod
    def start(cls, *given: object) -> None:
        end_with_parent()
        torch.set_num_threads(1)
        cls.given = given  # type: ignore[assignment]

    @classmethod
    def train(cls, training: tuple[frozenset[int], int]) -> list[float]:
        recipe, passages, queries, max_length, models = cls.given
        without, seed = training
        kept = [passage for number, passage in enumerate(passages) if number not in without]
        with TemporaryDirectory(dir=models) as folder:
            retrain(recipe, Corpus.of(kept), Path(folder), seed)
            model = load_model(folder, "cpu")
            encoded = [model.encoder.query(query, max_length) for query in queries]
            losses = target_losses(model, encoded, BATCH_TOKENS)
        return [round(-nats, DIGITS) for nats in losses]
