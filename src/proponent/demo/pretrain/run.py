"""Pretraining as a folder: settings first, checkpoints on the way, an ordinary model folder at the end."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase, Trainer, set_seed

from proponent.corpus.corpus import Corpus
from proponent.demo.pretrain.passages import TokenisedPassages, train_tokenizer
from proponent.demo.pretrain.sizes import SIZES, ModelSize
from proponent.demo.pretrain.training import OPTIMIZATION, train, training_arguments
from proponent.errors import InputError
from proponent.progress import Progress, Silent

RECORD = "pretrain.json"
CHECKPOINTS = "checkpoints"
OPTIMIZER = "optimizer.pt"
TOKENIZER = "tokenizer"
TOKENS = "tokens.u32"
SHORTEST = 8  # tokens a chunk, or there is hardly anything to predict


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A finished pretraining run.

    directory: an ordinary Hugging Face model folder, with ``optimizer.pt`` beside the weights.
    parameters, passages, tokens (of the corpus, once), steps: counts.  loss: the mean a token, in nats,
    over the last fiftieth of the steps.  seconds: what this call or the finishing one took.
    learning_rate: the highest, at the end of the warm-up.
    """

    directory: Path
    parameters: int
    passages: int
    tokens: int
    steps: int
    loss: float
    seconds: float
    learning_rate: float


def pretrain(
    corpus: Corpus,
    directory: str | os.PathLike[str],
    size: str = "tiny",
    *,
    seed: int = 0,
    epochs: float = 14,
    steps: int | None = None,
    learning_rate: float | None = None,
    batch: int | None = None,
    max_length: int = 256,
    progress: Progress | None = None,
) -> Pretrained:
    """Train a Llama-shaped model and its tokenizer from scratch with Adafactor; leave a model folder.

    size: a name in SIZES, which also gives learning_rate and batch (passages a step) unless they are
    given.  steps: overrides epochs.  max_length: longer passages are cut into chunks of so many tokens.
    An interrupted run goes on from its last checkpoint and ends as if it had not been; a finished one
    is left as it is.  Raises InputError for settings that cannot be, where ``directory`` holds another
    run or something else, and where the package accelerate is missing.
    """
    began, progress, folder = time.monotonic(), progress or Silent(), Path(directory)
    shape = _checked_size(size, epochs, steps, learning_rate, batch, max_length)
    survey = corpus.survey(sample=0)
    settings: dict[str, Any] = {
        **dataclasses.asdict(shape),
        **OPTIMIZATION,
        "seed": seed,
        "epochs": None if steps else epochs,
        "steps": steps,
        "max_length": max_length,
        "corpus": survey.fingerprint,
    }
    if (finished := _finished_or_resumable(folder, settings)) is not None:
        progress.say(f"pretrain: {folder} is already there, trained with these settings")
        return finished
    _write_record(folder, {"settings": settings})
    result = {
        "passages": survey.passages - survey.empty,
        **_train_in(folder, corpus, shape, settings, progress),
        "seconds": time.monotonic() - began,
    }
    _write_record(folder, {"settings": settings, "result": result})
    return _pretrained(folder, settings, result)


def _train_in(
    folder: Path, corpus: Corpus, shape: ModelSize, settings: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    """Train from wherever the folder's run has come to, and leave the model in it; what was counted."""
    max_length, seed = settings["max_length"], settings["seed"]
    tokenizer = _tokenizer(corpus, shape, folder)
    passages = TokenisedPassages.write(corpus, tokenizer, max_length, folder / TOKENS)
    steps = settings["steps"] or math.ceil(settings["epochs"] * math.ceil(len(passages) / shape.batch))
    set_seed(seed)
    model = LlamaForCausalLM(shape.config(tokenizer, max_length))
    arguments = training_arguments(folder / CHECKPOINTS, steps, shape.batch, shape.learning_rate, seed)
    trainer = train(model, passages, arguments, progress)
    _save_model(trainer, tokenizer, folder)
    (folder / TOKENS).unlink()
    return {
        "parameters": model.num_parameters(),
        "tokens": int(passages.lengths.sum()),
        "steps": steps,
        "loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1],
    }


def _checked_size(
    size: str,
    epochs: float,
    steps: int | None,
    learning_rate: float | None,
    batch: int | None,
    max_length: int,
) -> ModelSize:
    """The named size with the given settings in place of its own; InputError for what cannot be."""
    if find_spec("accelerate") is None:
        raise InputError(
            "pretraining needs the package accelerate, which is not installed: "
            "pip install 'proponent[pretrain]'"
        )
    if size not in SIZES:
        raise InputError(f"size '{size}' is not known; choose one of {', '.join(SIZES)}")
    given = {"epochs": epochs, "steps": steps, "learning_rate": learning_rate, "batch": batch}
    for name, value in given.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}; it must be more than 0")
    if max_length < SHORTEST:
        raise InputError(f"max_length is {max_length}; it must be at least {SHORTEST} tokens")
    shape = SIZES[size]
    return dataclasses.replace(
        shape, learning_rate=learning_rate or shape.learning_rate, batch=batch or shape.batch
    )


def _finished_or_resumable(folder: Path, settings: Mapping[str, Any]) -> Pretrained | None:
    """The finished run of these settings; None where one may begin or go on; InputError for all else."""
    if not folder.exists() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        return None
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        found, result = record["settings"], record.get("result")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{folder} is not empty and holds no readable {RECORD}; give an empty or new folder"
        ) from None
    differing = [name for name in settings if found.get(name) != settings[name]]
    if differing:
        what = ", ".join(f"{name} {found.get(name)} (asked for {settings[name]})" for name in differing)
        raise InputError(f"{folder} was pretrained with other settings: {what}; give another folder")
    return _pretrained(folder, settings, result) if result else None


def _pretrained(folder: Path, settings: Mapping[str, Any], result: Mapping[str, Any]) -> Pretrained:
    return Pretrained(folder, learning_rate=settings["learning_rate"], **result)


def _tokenizer(corpus: Corpus, shape: ModelSize, folder: Path) -> PreTrainedTokenizerBase:
    """The run's tokenizer, trained when the run began; always read back from its folder.

    Reading it back makes sure that the model is trained with exactly what it is saved with.
    """
    kept = folder / TOKENIZER
    if not kept.exists():
        aside = folder / f"{TOKENIZER}.partial"
        train_tokenizer(corpus, shape.vocabulary).save_pretrained(aside)
        aside.rename(kept)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(kept, trust_remote_code=False)
    return tokenizer


def _save_model(trainer: Trainer, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Model, tokenizer and optimizer state, written aside and moved into the folder."""
    aside = folder / "model.partial"
    shutil.rmtree(aside, ignore_errors=True)
    trainer.save_model(str(aside))
    tokenizer.save_pretrained(aside)
    last = folder / CHECKPOINTS / f"checkpoint-{trainer.state.global_step}"
    shutil.copyfile(last / OPTIMIZER, aside / OPTIMIZER)
    for path in aside.iterdir():
        path.replace(folder / path.name)
    aside.rmdir()
    shutil.rmtree(folder / TOKENIZER)


def _write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of the run aside and rename it: with a result in it, the run is finished."""
    aside = folder / f"{RECORD}.partial"
    with aside.open("w", encoding="utf-8") as out:
        json.dump(record, out, indent=2)
        out.write("\n")
        out.flush()
        os.fsync(out.fileno())
    aside.replace(folder / RECORD)
