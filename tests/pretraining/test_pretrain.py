"""Pretraining: it learns, it resumes as if nothing had happened, it refuses what does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pretraining.conftest import CORPUS

pytest.importorskip("accelerate", reason="needs the extra 'pretrain'")

from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from proponent.corpus import Corpus
from proponent.corpus.encoding import TextEncoder
from proponent.errors import InputError
from proponent.evaluate.experiments.training import training_of
from proponent.pretraining import SIZES, pretrain, training
from proponent.pretraining.passages import (
    END,
    GroupedByLength,
    PadRight,
    TokenisedPassages,
    train_tokenizer,
)


def losses(folder: Path) -> list[float]:
    checkpoint = max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    history = json.loads((checkpoint / training.COMPLETE).read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def test_the_loss_falls_and_the_record_says_how(trained: Path) -> None:
    record = json.loads((trained / "pretrain.json").read_text())
    course = losses(trained)
    assert course[-1] < course[0] - 1
    assert record["result"]["loss"] == pytest.approx(course[-1])
    assert record["settings"]["optimizer"] == "adafactor"
    assert record["settings"]["learning_rate"] == SIZES["tiny"].learning_rate
    assert record["result"]["steps"] == 12
    assert record["result"]["passages"] == 30


def test_the_folder_loads_like_any_model(trained: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(trained)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    text = "Guide number 7 leads — naïve 東京 — to the mill."
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert TextEncoder(tokenizer).prefix == (tokenizer.bos_token_id,)
    assert model.config.vocab_size == len(tokenizer)
    with torch.no_grad():
        loss = model(torch.tensor([ids]), labels=torch.tensor([ids])).loss
    assert torch.isfinite(loss)


def test_checkpoints_keep_second_moments(trained: Path) -> None:
    kept = sorted(path.name for path in (trained / "checkpoints").iterdir())
    assert kept == ["checkpoint-12", "checkpoint-3", "checkpoint-6", "checkpoint-9"]
    for path in [trained, *(trained / "checkpoints").iterdir()]:
        state = torch.load(path / "optimizer.pt", weights_only=True)
        assert any("exp_avg_sq_row" in entry for entry in state["state"].values())
    assert not [path.name for path in trained.iterdir() if "partial" in path.name or "tokens" in path.name]


@pytest.mark.parametrize(
    ("count", "kept"), [(1, [12]), (3, [4, 8, 12]), (5, [3, 6, 9, 12]), (50, range(1, 13))]
)
def test_as_many_checkpoints_as_are_asked_for(count: int, kept: list[int], tmp_path: Path) -> None:
    pretrain(CORPUS, tmp_path / "model", steps=12, batch=8, checkpoints=count)
    found = {path.name for path in (tmp_path / "model" / "checkpoints").iterdir()}
    assert found == {f"checkpoint-{step}" for step in kept}


def test_a_record_tells_the_tokens_read_until_a_checkpoint(trained: Path, tmp_path: Path) -> None:
    made = pretrain(CORPUS, tmp_path / "model", steps=12, batch=8, checkpoints=6)
    tokenizer = AutoTokenizer.from_pretrained(made.directory)
    lengths = TokenisedPassages.write(CORPUS, tokenizer, 256, tmp_path / "tokens").lengths
    order, batches = GroupedByLength(lengths, batch=8, seed=0), list[int]()
    for epoch in range(3):  # 30 passages are 4 batches
        order.set_epoch(epoch)
        shuffled = list(order)
        batches += [int(lengths[shuffled[at : at + 8]].sum()) for at in range(0, 30, 8)]
    for step in (2, 4, 6, 8, 10, 12):
        found = training_of(str(made.directory / "checkpoints" / f"checkpoint-{step}"))
        assert found is not None
        assert (found.folder, found.step) == (made.directory, step)
        slack = 0 if step % 4 == 0 else 0.2 * made.tokens  # within a pass: batches are not of one size
        assert found.tokens == pytest.approx(sum(batches[:step]), abs=slack)
    whole = training_of(str(made.directory))
    assert whole is not None
    assert (whole.tokens, whole.step, whole.loss) == (3 * made.tokens, None, made.loss)


def test_an_interrupted_run_ends_as_if_it_had_not_been(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, done = training.Trainer.training_step, 0

    def fail_at_eighth(self: Any, *args: Any, **more: Any) -> Any:
        nonlocal done
        done += 1
        if done == 8:
            raise KeyboardInterrupt
        return step(self, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, "training_step", fail_at_eighth)
        with pytest.raises(KeyboardInterrupt):
            pretrain(CORPUS, tmp_path / "model", steps=12, batch=8)
    broken = tmp_path / "model" / "checkpoints" / "checkpoint-7"
    broken.mkdir()  # as of a run killed while it saved
    assert not (tmp_path / "model" / "model.safetensors").exists()
    pretrain(CORPUS, tmp_path / "model", steps=12, batch=8)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "model", trained))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert losses(tmp_path / "model") == losses(trained)


def test_a_finished_run_is_left_alone(trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    result = pretrain(CORPUS, trained, steps=12, batch=8)
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before
    assert result.steps == 12
    assert result.directory == trained


def test_a_run_killed_before_its_last_line_finishes_without_training(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "model")
    record = json.loads((trained / "pretrain.json").read_text())
    (tmp_path / "model" / "pretrain.json").write_text(json.dumps({"settings": record["settings"]}))
    (tmp_path / "model" / "model.safetensors").unlink()
    result = pretrain(CORPUS, tmp_path / "model", steps=12, batch=8)
    assert result.loss == record["result"]["loss"]
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "model" / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": "small"}, "name tiny \\(asked for small\\)"),
        ({"seed": 1}, "seed 0 \\(asked for 1\\)"),
        ({"steps": 13}, "steps 12 \\(asked for 13\\)"),
        ({"learning_rate": 0.5}, "learning_rate 0.00\\d+ \\(asked for 0.5\\)"),
        ({"checkpoints": 8}, "checkpoints 4 \\(asked for 8\\)"),
    ],
)
def test_other_settings_are_refused(trained: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        pretrain(CORPUS, trained, **{"steps": 12, "batch": 8, **change})


def test_another_corpus_is_refused(trained: Path) -> None:
    with pytest.raises(InputError, match="corpus"):
        pretrain(Corpus.of(["Something else."]), trained, steps=12, batch=8)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds no readable pretrain\.json"):
        pretrain(CORPUS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": "huge"}, "choose one of nano, tiny, small, medium, base"),
        ({"epochs": 0}, "epochs is 0"),
        ({"steps": -3}, "steps is -3"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"batch": 0}, "batch is 0"),
        ({"checkpoints": 0}, "checkpoints is 0; it must be more than 0"),
        ({"max_length": 2}, "max_length is 2; it must be at least 8"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        pretrain(CORPUS, tmp_path / "model", **change)
    assert not (tmp_path / "model").exists()


def test_a_missing_accelerate_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proponent.pretraining.run.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'proponent\[pretrain\]'"):
        pretrain(CORPUS, tmp_path / "model")


def test_long_passages_are_cut_and_only_their_end_is_marked(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(CORPUS, 300)
    corpus = Corpus.of(["Guide number 3 leads visitors to the market at noon. " * 3, " ", "Guide."])
    chunks = list(TokenisedPassages.write(corpus, tokenizer, 20, tmp_path / "tokens"))
    ends = [chunk[-1] == tokenizer.convert_tokens_to_ids(END) for chunk in chunks]
    assert len(chunks) > 3
    assert ends == [False] * (len(chunks) - 2) + [True, True]
    assert all(chunk[0] == tokenizer.bos_token_id and len(chunk) <= 21 for chunk in chunks)
    kept = tokenizer.decode(
        [int(token) for chunk in chunks[:-1] for token in chunk], skip_special_tokens=True
    )
    assert kept == corpus.sources[0].examples[0].text  # type: ignore[attr-defined]


def test_padding_is_masked_and_never_a_label(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(CORPUS, 300)
    chunks = list(TokenisedPassages.write(CORPUS, tokenizer, 64, tmp_path / "tokens"))[:4]
    batch = PadRight(tokenizer.pad_token_id)(chunks)
    assert batch["input_ids"].shape == (4, max(map(len, chunks)))
    for row, chunk in enumerate(chunks):
        assert batch["input_ids"][row, : len(chunk)].tolist() == chunk.tolist()
        assert batch["attention_mask"][row].sum() == len(chunk)
        assert batch["labels"][row, len(chunk) :].eq(-100).all()


def test_batches_hold_like_lengths_and_depend_on_seed_and_epoch_alone(tmp_path: Path) -> None:
    lengths = TokenisedPassages.write(CORPUS, train_tokenizer(CORPUS, 300), 64, tmp_path / "tokens").lengths
    order = GroupedByLength(lengths, batch=4, seed=5)
    first = list(order)
    assert sorted(first) == list(range(30))
    assert list(order) == first
    order.set_epoch(1)
    assert list(order) != first
    spread = [lengths[first[at : at + 4]].max() - lengths[first[at : at + 4]].min() for at in range(0, 28, 4)]
    assert max(spread) < lengths.max() - lengths.min()
