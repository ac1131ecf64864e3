"""The training itself: the Hugging Face Trainer, with exact resumption."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import (
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from proponent.files import parse_json
from proponent.pretraining.passages import GroupedByLength, PadRight, TokenisedPassages
from proponent.progress import Advance, Progress

# Written into every run's pretrain.json.  After the warm-up the learning rate falls linearly to 0: the demo's
# model then knows three quarters of its facts after 12 epochs; at a constant rate it takes 16.
# The gradient's norm is not clipped (0): Adafactor bounds its own update.
OPTIMIZATION: dict[str, Any] = {
    "optimizer": "adafactor",
    "schedule": "linear",
    "warmup_share": 0.05,
    "weight_decay": 0.0,
    "max_grad_norm": 0.0,
}
RECORD = "pretrain.json"
LOSSES = 50  # mean losses that a run logs
COMPLETE = "trainer_state.json"  # the Trainer writes this file of a checkpoint last


class _ResumableTrainer(Trainer):
    """A Trainer whose order of passages can be resumed in the middle of an epoch.

    Its checkpoints can be used like the finished model: tokenizer and record are beside the weights.
    """

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        passages = self.train_dataset
        assert isinstance(passages, TokenisedPassages)
        return GroupedByLength(passages.lengths, self.args.train_batch_size, self.args.seed)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        folder = Path(str(self.args.output_dir))
        shutil.copyfile(folder.parent / RECORD, Path(output_dir or folder) / RECORD)


class _Advance(TrainerCallback):
    """Passes on each finished step."""

    def __init__(self, advance: Advance, tokens: int) -> None:
        self._advance, self._tokens = advance, tokens

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._advance(1, tokens=self._tokens)


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    passages: TokenisedPassages,
    arguments: TrainingArguments,
    progress: Progress,
) -> Path:
    """Train ``model`` for ``arguments.max_steps`` steps, from the last complete checkpoint if there is one.

    Checkpoints go to ``arguments.output_dir``, beside which the run's record is; returns the last one.
    progress is advanced by every step, with the mean number of tokens of a batch.
    """
    checkpoints, steps = Path(str(arguments.output_dir)), arguments.max_steps
    found = last_checkpoint(checkpoints)
    done = int(found.name.rpartition("-")[2]) if found else 0
    if found:
        progress.say(f"pretrain: goes on after step {done:,} of {steps:,}")
    if done < steps:
        trainer = _ResumableTrainer(
            model=model,
            args=arguments,
            train_dataset=passages,
            data_collator=PadRight(int(tokenizer.pad_token_id)),
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        tokens = int(passages.lengths.mean() * arguments.per_device_train_batch_size)
        with progress.stage("pretrain", steps - done, "steps") as advance:
            trainer.add_callback(_Advance(advance, tokens))
            trainer.train(resume_from_checkpoint=str(found) if found else None)
    return checkpoints / f"checkpoint-{steps}"


def logged_losses(checkpoint: Path) -> list[float]:
    """The losses that were logged up to a checkpoint: means a token, in nats."""
    state = parse_json((checkpoint / COMPLETE).read_text(encoding="utf-8"))
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def training_arguments(
    checkpoints: Path, kept: int, steps: int, batch: int, learning_rate: float, seed: int
) -> TrainingArguments:
    """The Trainer's settings, with ``kept`` evenly spaced checkpoints, the last at the end."""
    return TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=batch,
        optim=OPTIMIZATION["optimizer"],
        learning_rate=learning_rate,
        lr_scheduler_type=OPTIMIZATION["schedule"],
        warmup_steps=math.ceil(OPTIMIZATION["warmup_share"] * steps),
        weight_decay=OPTIMIZATION["weight_decay"],
        max_grad_norm=OPTIMIZATION["max_grad_norm"],
        seed=seed,
        save_strategy="steps",
        save_steps=math.ceil(steps / kept),
        logging_strategy="steps",
        logging_steps=max(1, steps // LOSSES),
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
    )


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; incomplete ones after it are removed."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal()]
    found.sort(key=lambda path: int(path.name.rpartition("-")[2]))
    while found:
        try:
            parse_json((found[-1] / COMPLETE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(found.pop())
        else:
            return found[-1]
    return None
