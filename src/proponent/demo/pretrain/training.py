"""The training itself: the Hugging Face Trainer, kept quiet, with exact resumption."""

from __future__ import annotations

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import (
    LlamaForCausalLM,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging as transformers_logging

from proponent.demo.pretrain.passages import GroupedByLength, PadRight, TokenisedPassages
from proponent.progress import Advance, Progress

# Written into every run's pretrain.json.  After the warm-up the rate falls to nothing in a straight line:
# so the demo's model knows three quarters of its facts after 12 epochs; at a constant rate it takes 16.
# The gradient's norm is not clipped (0): Adafactor bounds its own update.
OPTIMIZATION: dict[str, Any] = {
    "optimizer": "adafactor",
    "schedule": "linear",
    "warmup_share": 0.05,
    "weight_decay": 0.0,
    "max_grad_norm": 0.0,
}
KEPT_CHECKPOINTS = 4
LOSSES = 50  # how many means of the loss a run logs
COMPLETE = "trainer_state.json"  # the file that the Trainer writes last into a checkpoint


class _LengthGroupedTrainer(Trainer):
    """A Trainer whose order of passages can be resumed in the middle of an epoch."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        passages = self.train_dataset
        assert isinstance(passages, TokenisedPassages)
        return GroupedByLength(passages.lengths, self.args.train_batch_size, self.args.seed)


class _Tell(TrainerCallback):
    """Passes on each finished step."""

    def __init__(self, advance: Advance, tokens: int) -> None:
        self._advance, self._tokens = advance, tokens

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._advance(1, tokens=self._tokens)


def train(
    model: LlamaForCausalLM,
    passages: TokenisedPassages,
    arguments: TrainingArguments,
    progress: Progress,
) -> Trainer:
    """Train ``model`` for ``arguments.max_steps`` steps, from the last complete checkpoint if there is one.

    progress is told of every step, with the mean number of tokens of a batch.
    """
    logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    pad = model.config.pad_token_id
    assert pad is not None
    trainer = _LengthGroupedTrainer(
        model=model,
        args=arguments,
        train_dataset=passages,
        data_collator=PadRight(pad),
    )
    trainer.remove_callback(PrinterCallback)
    found = last_checkpoint(Path(str(arguments.output_dir)))
    done = int(found.name.rpartition("-")[2]) if found else 0
    if found:
        progress.say(f"pretrain: goes on from step {done:,}")
    tokens = int(passages.lengths.mean() * arguments.per_device_train_batch_size)
    with progress.stage("pretrain", arguments.max_steps - done, "steps") as advance:
        trainer.add_callback(_Tell(advance, tokens))
        trainer.train(resume_from_checkpoint=str(found) if found else None)
    return trainer


def training_arguments(
    checkpoints: Path, steps: int, batch: int, learning_rate: float, seed: int
) -> TrainingArguments:
    """The Trainer's settings; KEPT_CHECKPOINTS evenly spaced checkpoints stay, the last one at the end."""
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
        save_steps=math.ceil(steps / KEPT_CHECKPOINTS),
        logging_strategy="steps",
        logging_steps=max(1, steps // LOSSES),
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
    )


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; those after it are removed as broken."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    while found:
        try:
            json.loads((found[-1] / COMPLETE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(found.pop())
        else:
            return found[-1]
    return None
