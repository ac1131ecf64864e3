"""How far a model was trained, as the files of ``proponent pretrain`` tell it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from proponent.files import parse_json

RECORD, CHECKPOINTS, STATE = "pretrain.json", "checkpoints", "trainer_state.json"


@dataclass(frozen=True)
class Training:
    """The training that a model is of.

    folder: where it was trained.  step: of a checkpoint; None for the finished model.  text: fingerprint of
    the corpus.  tokens: read until then, every pass counted: exact at the end of a pass, within a pass as if
    all its batches had as many.  loss: on the text, the last mean a token that was logged, in nats.  Both are
    None where the files do not tell, as before the training is finished.
    """

    folder: Path
    step: int | None
    text: str
    tokens: int | None
    loss: float | None

    @property
    def name(self) -> str:
        """Of the model, as tables have it."""
        return self.folder.name + ("" if self.step is None else f", step {self.step:,}")


def training_of(model: str) -> Training | None:
    """The training of a model folder, or of a checkpoint of it; None where pretrain left no record."""
    folder, step = Path(model).absolute(), None
    if folder.parent.name == CHECKPOINTS and (found := re.fullmatch(r"checkpoint-(\d+)", folder.name)):
        folder, step = folder.parent.parent, int(found[1])
    try:
        record = parse_json((folder / RECORD).read_text(encoding="utf-8"))
        text = str(record["settings"]["corpus"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Training(folder, step, text, *_until(folder, step, record))


def _until(
    folder: Path, step: int | None, record: dict[str, dict[str, int]]
) -> tuple[int | None, float | None]:
    """Tokens and loss until a step, or the last one: passes over the corpus times its tokens."""
    try:
        result = record["result"]
        last = folder / CHECKPOINTS / f"checkpoint-{result['steps'] if step is None else step}"
        state = parse_json((last / STATE).read_text(encoding="utf-8"))
        losses = [float(entry["loss"]) for entry in state["log_history"] if "loss" in entry]
        return round(float(state["epoch"]) * result["tokens"]), losses[-1] if losses else None
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
