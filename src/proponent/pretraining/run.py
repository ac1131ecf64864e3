"""Pretraining into a folder: settings first, checkpoints on the way, an ordinary model folder at the end."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase, set_seed

from proponent.corpus.corpus import Corpus
from proponent.errors import InputError
from proponent.files import locked, parse_json, write_json, written_whole
from proponent.gradients.loading import quiet
from proponent.pretraining.passages import TokenisedPassages, train_tokenizer
from proponent.pretraining.sizes import SIZES, ModelSize
from proponent.pretraining.training import OPTIMIZATION, RECORD, logged_losses, train, training_arguments
from proponent.progress import Progress, Silent
from proponent.remote import require_local

LOCK = ".lock"
CHECKPOINTS = "checkpoints"
TOKENS = "tokens.u32"
TOKENIZER = "tokenizer_config.json"  # the tokenizer's file that is written last
# What of a checkpoint does not belong to the model: what resuming needs, and the paths of this machine.
NOT_MODEL = frozenset({RECORD, "trainer_state.json", "scheduler.pt", "rng_state.pth", "training_args.bin"})
SHORTEST = 8  # tokens a chunk: with fewer there is hardly anything to predict


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
    checkpoints: int = 4,
    progress: Progress | None = None,
) -> Pretrained:
    """Train a Llama-shaped model and its tokenizer from scratch with Adafactor; leave a model folder.

    size: a name in SIZES, which also gives learning_rate and batch (passages a step) unless they are
    given.  steps: overrides epochs.  max_length: longer passages are cut into chunks of so many tokens.
    checkpoints: so many model folders are kept on the way, evenly spaced, the last at the end.
    Killed and called again, it goes on to the same model; a finished run is left as it is.  Raises InputError
    for settings that cannot be used, a ``directory`` of other things or in use, and without accelerate.
    """
    own = {"epochs": epochs, "steps": steps, "checkpoints": checkpoints}
    shape = _checked_size(size, max_length, learning_rate=learning_rate, batch=batch, **own)
    own |= {"seed": seed, "epochs": None if steps else epochs, "max_length": max_length}
    require_local(
        directory, "a model is trained into a folder of this machine; give a path, and copy it then"
    )
    began, progress, folder = time.monotonic(), progress or Silent(), Path(directory)
    with _alone(folder):
        survey = corpus.survey(sample=0)
        settings = {**dataclasses.asdict(shape), **OPTIMIZATION, **own, "corpus": survey.fingerprint}
        found, finished = _found(folder)
        _check_same(folder, found, settings)
        if finished:
            progress.say(f"pretrain: {folder} is already there, trained with these settings")
            return finished
        write_json(folder / RECORD, {"settings": settings})
        with quiet():
            result = train_in(folder, corpus, shape, settings, progress)
        result |= {"passages": survey.passages - survey.empty, "seconds": time.monotonic() - began}
        write_json(folder / RECORD, {"settings": settings, "result": result})
        return Pretrained(folder, learning_rate=shape.learning_rate, **result)


def train_in(
    folder: Path, corpus: Corpus, shape: ModelSize, settings: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    """Train from the last checkpoint and leave the model in the folder; returns its counts.

    settings: seed, steps or epochs, max_length, checkpoints; they are in the folder's record already.
    A run that was killed after its last checkpoint does all that follows again.
    """
    max_length, seed = settings["max_length"], settings["seed"]
    tokenizer = _tokenizer(corpus, shape, folder)
    passages = TokenisedPassages.write(corpus, tokenizer, max_length, folder / TOKENS)
    steps = settings["steps"] or math.ceil(settings["epochs"] * math.ceil(len(passages) / shape.batch))
    set_seed(seed)
    model = LlamaForCausalLM(shape.config(tokenizer, max_length))
    kept, pace = settings["checkpoints"], (steps, shape.batch, shape.learning_rate)
    arguments = training_arguments(folder / CHECKPOINTS, kept, *pace, seed)
    last = train(model, tokenizer, passages, arguments, progress)
    _copy_files(last, folder, without=NOT_MODEL)
    for leftover in (folder / TOKENS, *folder.glob(".*.part")):
        leftover.unlink()
    return {
        "parameters": model.num_parameters(),
        "tokens": int(passages.lengths.sum()),
        "steps": steps,
        "loss": logged_losses(last)[-1],
    }


def _checked_size(size: str, max_length: int, **given: float | None) -> ModelSize:
    """The named size with the given settings in place of its own; InputError for what cannot be."""
    if find_spec("accelerate") is None:
        missing = "pretraining needs the package accelerate, which is not installed"
        raise InputError(f"{missing}: pip install 'proponent[pretrain]'")
    if size not in SIZES:
        raise InputError(f"size '{size}' is not known; choose one of {', '.join(SIZES)}")
    for name, value in given.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}; it must be more than 0")
    if max_length < SHORTEST:
        raise InputError(f"max_length is {max_length}; it must be at least {SHORTEST} tokens")
    own: dict[str, Any] = {name: given[name] for name in ("learning_rate", "batch") if given[name]}
    return dataclasses.replace(SIZES[size], **own)


def _alone(folder: Path) -> AbstractContextManager[None]:
    """Keeps other processes from training into the folder; a finished run needs no lock."""
    _, finished = _found(folder)
    if finished and not (folder / LOCK).exists():
        return nullcontext()
    return locked(folder / LOCK, f"{folder}: another process is training into this folder; let it finish")


def _found(folder: Path) -> tuple[dict[str, Any], Pretrained | None]:
    """Settings of the run in a folder, {} where none was begun; and its result, None while unfinished.

    Raises InputError where the folder holds something else.
    """
    if not folder.is_file() and not any(folder.glob("[!.]*")):  # a killed run leaves hidden files
        return {}, None
    try:
        content = parse_json((folder / RECORD).read_text(encoding="utf-8"))
        settings, result = dict(content["settings"]), content.get("result")
        rate = settings["learning_rate"]
        return settings, Pretrained(folder, learning_rate=rate, **result) if result else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        found = f"{folder} is not empty and holds no readable {RECORD}"
        raise InputError(f"{found}; give an empty or new folder") from None


def _check_same(folder: Path, found: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise InputError where the folder's run was begun with other settings."""
    differing = [name for name in settings if found and found.get(name) != settings[name]]
    if differing:
        what = ", ".join(f"{name} {found.get(name)} (asked for {settings[name]})" for name in differing)
        raise InputError(f"{folder} was pretrained with other settings: {what}; give another folder")


def _tokenizer(corpus: Corpus, shape: ModelSize, folder: Path) -> PreTrainedTokenizerBase:
    """The run's tokenizer, trained at the start and read back, as whoever loads the model will read it."""
    if not (folder / TOKENIZER).exists():
        with TemporaryDirectory() as made:
            train_tokenizer(corpus, shape.vocabulary).save_pretrained(made)
            _copy_files(Path(made), folder)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return tokenizer


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy a model folder's tokenizer into another one."""
    with TemporaryDirectory() as made:
        AutoTokenizer.from_pretrained(source, trust_remote_code=False).save_pretrained(made)
        _copy_files(Path(made), folder)


def _copy_files(source: Path, folder: Path, without: frozenset[str] = frozenset()) -> None:
    """Copy the files of a folder, each whole or not at all, in the order of their names."""
    for path in sorted(source.iterdir()):
        if path.name not in without:
            with written_whole(folder / path.name) as aside:
                shutil.copyfile(path, aside)
