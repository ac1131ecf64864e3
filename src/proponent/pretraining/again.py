"""The same training on other passages: what a model would be, had its corpus been another one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proponent.corpus.corpus import Corpus
from proponent.errors import InputError
from proponent.files import parse_json, write_json
from proponent.gradients.loading import quiet
from proponent.pretraining.run import copy_tokenizer, train_in
from proponent.pretraining.sizes import ModelSize
from proponent.pretraining.training import RECORD
from proponent.progress import Silent


@dataclass(frozen=True)
class Recipe:
    """How a model was pretrained.

    folder: of the model, whose tokenizer is kept.  settings: of its pretraining, as its record has them.
    """

    folder: Path
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, model: str) -> Recipe:
        """The recipe of a model folder; InputError where ``proponent pretrain`` left none."""
        try:
            record = parse_json((Path(model) / RECORD).read_text(encoding="utf-8"))
            if "result" not in record:
                raise InputError(f"{model}: its pretraining is unfinished; let it finish first")
            made = cls(Path(model), dict(record["settings"]))
            _ = made.shape
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{model}: holds no record of its training, without which it cannot be trained again; "
                "use a model that 'proponent pretrain' made"
            ) from error
        return made

    @property
    def shape(self) -> ModelSize:
        """The shape of the model."""
        return ModelSize(**{field.name: self.settings[field.name] for field in dataclasses.fields(ModelSize)})


def retrain(recipe: Recipe, corpus: Corpus, folder: Path, seed: int) -> None:
    """Train a model from scratch into a new folder by a recipe on other passages, with the same tokenizer.

    As many epochs as the recipe's, so that a part of the corpus takes as large a part of the steps; no
    checkpoint on the way.  seed: of the first weights and of the order of passages.
    """
    settings = {**recipe.settings, "seed": seed, "checkpoints": 1}
    write_json(folder / RECORD, {"settings": settings})
    copy_tokenizer(recipe.folder, folder)
    with quiet():
        train_in(folder, corpus, recipe.shape, settings, Silent())
