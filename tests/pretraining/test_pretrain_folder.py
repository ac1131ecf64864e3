"""Pretraining and its folder: one process at a time, killed at any moment, checkpoints that can be used."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.killing import Death, Killed
from tests.pretraining.conftest import CORPUS
from transformers.utils import logging as transformers_logging

pytest.importorskip("accelerate", reason="needs the extra 'pretrain'")

from proponent.attribute.tail_patch import PatchStep
from proponent.corpus import Corpus, Query
from proponent.errors import InputError
from proponent.files import locked
from proponent.gradients.model import load_model
from proponent.pretraining import pretrain


def model_files(folder: Path) -> dict[str, Any]:
    """All files outside the checkpoints with their bytes, and the record without its seconds."""
    files: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    files["pretrain.json"] = json.loads(files["pretrain.json"])
    files["pretrain.json"].get("result", {}).pop("seconds", None)
    return files


def survives(folder: Path, operations: int) -> bool:
    """Run pretraining until so many file operations are done; whether it came to its end."""
    with pytest.MonkeyPatch.context() as patch:
        Death(patch, operations)
        try:
            pretrain(CORPUS, folder, steps=12, batch=8)
        except Killed:
            return False
    return True


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed run leaves among the temporary files goes with the test."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))


def test_a_run_killed_before_it_trains_ends_with_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    # each life ends one operation later than the one before; twelve cover the record and the tokenizer
    assert not any(survives(tmp_path / "model", operations) for operations in range(13))
    assert (tmp_path / "model" / "tokenizer.json").exists()
    pretrain(CORPUS, tmp_path / "model", steps=12, batch=8)
    assert model_files(tmp_path / "model") == model_files(trained)


@pytest.mark.slow
def test_a_run_killed_after_it_has_trained_ends_with_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    begun = {"settings": json.loads((trained / "pretrain.json").read_text())["settings"]}
    untouched = model_files(trained)
    operations, lives = 0, 0
    while True:
        folder = tmp_path / str(operations)
        shutil.copytree(trained, folder)
        (folder / "pretrain.json").write_text(json.dumps(begun))
        for name in ("config.json", "generation_config.json", "model.safetensors", "optimizer.pt"):
            (folder / name).unlink()
        survived = survives(folder, operations)
        pretrain(CORPUS, folder, steps=12, batch=8)
        assert model_files(folder) == untouched, f"killed after {operations} file operations"
        shutil.rmtree(folder)
        operations, lives = operations + 1, lives + 1
        if survived:
            break
    assert lives > 30, "each of eight files takes four operations"


def test_two_processes_cannot_train_into_one_folder(tmp_path: Path) -> None:
    class Untouched(Corpus):
        def __iter__(self) -> Iterator[Any]:
            raise AssertionError("the corpus is read")

        survey = __iter__  # type: ignore[assignment]

    held = locked(tmp_path / "model" / ".lock", "")
    with held, pytest.raises(InputError, match=r"another process is training into this folder"):
        pretrain(Untouched(()), tmp_path / "model", steps=12, batch=8)
    assert not (tmp_path / "model").exists()


def test_a_refused_run_leaves_no_lock(trained: Path) -> None:
    with pytest.raises(InputError, match="seed 0"):
        pretrain(CORPUS, trained, steps=12, batch=8, seed=1)
    assert not (trained / ".lock").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"settings": 3}', '{"settings": {}, "result": {"steps": 1}}'])
def test_a_damaged_record_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "pretrain.json").write_text(content)
    with pytest.raises(InputError, match=r"holds no readable pretrain\.json; give an empty or new folder"):
        pretrain(CORPUS, tmp_path)
    assert (tmp_path / "pretrain.json").read_text() == content


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(InputError, match="give an empty or new folder"):
        pretrain(CORPUS, tmp_path / "model")


def test_a_checkpoint_is_a_model_folder(trained: Path) -> None:
    for steps in (3, 12):
        checkpoint = str(trained / "checkpoints" / f"checkpoint-{steps}")
        model = load_model(checkpoint, device="cpu")
        whole = load_model(str(trained), device="cpu")
        query = Query("q", "Guide number 7 leads", "visitors")
        assert model.encoder.query(query, 64) == whole.encoder.query(query, 64)
        weights, final = model.causal.state_dict(), whole.causal.state_dict()
        same = [torch.equal(weights[name], final[name]) for name in final]
        assert all(same) if steps == 12 else not any(same)
        assert PatchStep.for_model(checkpoint) == PatchStep.for_model(str(trained)) != PatchStep()


def test_the_host_keeps_its_logging(tmp_path: Path) -> None:
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    loud = logging.getLogger("transformers.trainer").level
    transformers_logging.enable_progress_bar()
    transformers_logging.set_verbosity_info()
    try:
        pretrain(CORPUS, tmp_path / "model", steps=1, batch=8)
        assert transformers_logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
        assert logging.getLogger("transformers.trainer").level == loud
    finally:
        transformers_logging.set_verbosity(level)
        if not bars:
            transformers_logging.disable_progress_bar()
