"""Second moments out of checkpoints that the Hugging Face Trainer really wrote."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.features import sampled_moments
from tests.models import make_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PrinterCallback, Trainer, TrainingArguments
from transformers.pytorch_utils import Conv1D

from proponent.errors import InputError
from proponent.gradients.layers import LayerPlan, Matrix, cut_blocks, find_matrices
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.moments import SecondMoments
from proponent.gradients.optimizer import checkpoint_moments

# gemma2, gpt2: tied embeddings.  olmo: norms without weights, so no group without weight decay.
TRAINED = ["llama", "gpt2", "gpt_neox", "gemma2", "olmo", "phi"]
ROWS = [[0, *((7 * n + t * t) % 299 + 1 for t in range(9))] for n in range(8)]


@dataclass(frozen=True)
class Trained:
    """A model after a few steps, its optimizer as it is in memory, and the checkpoint on disk."""

    causal: nn.Module
    state: Mapping[Tensor, Mapping[str, Tensor]]
    checkpoint: Path
    model: LanguageModel

    @property
    def file(self) -> Path:
        return self.checkpoint / "optimizer.pt"

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        return find_matrices(self.model)

    def weight(self, module: str) -> Tensor:
        weight = self.causal.get_submodule(module).weight
        assert isinstance(weight, Tensor)
        return weight

    def as_rows(self, module: str, value: Tensor) -> Tensor:
        """A weight's V as [o, i]."""
        return value.T if isinstance(self.causal.get_submodule(module), Conv1D) else value


def train(folder: Path, family: str, optim: str, **changes: Any) -> Trained:
    """Train a tiny model for three steps and save a checkpoint."""
    make_model(folder / "model", family, **changes)
    causal = AutoModelForCausalLM.from_pretrained(folder / "model")
    trainer = Trainer(
        model=causal,
        args=TrainingArguments(
            output_dir=str(folder / "run"),
            max_steps=3,
            save_steps=3,
            per_device_train_batch_size=4,
            optim=optim,
            learning_rate=1e-3,
            weight_decay=0.1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            logging_strategy="no",
        ),
        train_dataset=[{"input_ids": torch.tensor(row), "labels": torch.tensor(row)} for row in ROWS],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    checkpoint = folder / "run" / "checkpoint-3"
    assert optimizer is not None
    model = load_model(str(folder / "model"), device="cpu")
    return Trained(causal, optimizer.state, checkpoint, model)


@pytest.fixture(scope="module", params=TRAINED)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def adam(family: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("adam"), family, "adamw_torch")


@pytest.fixture(scope="module")
def adafactor(family: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("adafactor"), family, "adafactor")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("llama"), "llama", "adamw_torch")


def inverse_root(moments: SecondMoments) -> Tensor:
    """1/√V [o, i] as a gradient meets it."""
    return torch.outer(moments.row_scale, moments.column_scale)


def refusal(trained: Trained, file: Path) -> str:
    """The one line of the InputError that a file ends with."""
    with pytest.raises(InputError) as caught:
        checkpoint_moments(trained.model, trained.matrices, file)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{file}: ")
    return str(caught.value)


def test_adam_gives_the_sums_of_its_full_v(adam: Trained) -> None:
    """V is looked up in the optimizer's memory by the parameter itself, not by its place."""
    found = checkpoint_moments(adam.model, adam.matrices, adam.file)
    assert found.keys() == {m.name for m in adam.matrices}
    for matrix in adam.matrices:
        full = torch.cat(
            [adam.as_rows(path, adam.state[adam.weight(path)]["exp_avg_sq"]) for path in matrix.modules]
        )
        assert full.shape == (sum(matrix.outputs), matrix.inputs)
        assert full.max() > 0
        torch.testing.assert_close(found[matrix.name].rows, full.sum(1), rtol=1e-5, atol=0)
        torch.testing.assert_close(found[matrix.name].columns, full.sum(0), rtol=1e-5, atol=0)


def test_adafactor_gives_its_own_rank_one_v(adafactor: Trained) -> None:
    """V is multiplied out as Adafactor does it: row means ⊗ column means / mean of the row means."""
    found = checkpoint_moments(adafactor.model, adafactor.matrices, adafactor.file)
    for matrix in adafactor.matrices:
        full = []
        for path in matrix.modules:
            state = adafactor.state[adafactor.weight(path)]
            r, c = state["exp_avg_sq_row"].double(), state["exp_avg_sq_col"].double()
            full.append(adafactor.as_rows(path, torch.outer(r, c) / r.mean()))
        v = torch.cat(full)
        assert v.shape == (sum(matrix.outputs), matrix.inputs)
        torch.testing.assert_close(found[matrix.name].rows.double(), v.sum(1), rtol=1e-5, atol=0)
        torch.testing.assert_close(found[matrix.name].columns.double(), v.sum(0), rtol=1e-5, atol=0)
        if len(matrix.modules) == 1:  # rank one already: nothing is lost
            expected = v.rsqrt().float()
            torch.testing.assert_close(inverse_root(found[matrix.name]), expected, rtol=1e-3, atol=0)


def test_the_trainer_keeps_two_groups(adam: Trained) -> None:
    """What the reader relies on; if this fails the Trainer has changed its order."""
    groups = torch.load(adam.file, weights_only=True)["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    parameters = list(adam.causal.parameters())
    assert sum(len(group["params"]) for group in groups) == len(parameters)


def test_an_optimizer_with_one_group_is_in_the_order_of_the_parameters(
    llama: Trained, tmp_path: Path
) -> None:
    causal: Any = AutoModelForCausalLM.from_pretrained(llama.checkpoint)
    optimizer = torch.optim.Adam(causal.parameters())
    causal(input_ids=torch.tensor(ROWS), labels=torch.tensor(ROWS)).loss.backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    found = checkpoint_moments(llama.model, llama.matrices, tmp_path / "optimizer.pt")
    full = optimizer.state[causal.get_submodule("model.layers.1.mlp.down_proj").weight]["exp_avg_sq"]
    torch.testing.assert_close(found["model.layers.1.mlp.down_proj"].rows, full.sum(1), rtol=1e-5, atol=0)


def test_a_checkpoint_points_where_a_sample_does(tmp_path: Path) -> None:
    """One batch of one passage: Adam's first V is (1 − β₂) G∘G, the sample's is G∘G."""
    model = load_model(str(make_model(tmp_path, "llama")), device="cpu")
    causal = AutoModelForCausalLM.from_pretrained(tmp_path)
    optimizer = torch.optim.Adam(causal.parameters(), betas=(0.9, 0.9))
    causal(input_ids=torch.tensor(ROWS[:1]), labels=torch.tensor(ROWS[:1])).loss.backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    matrices = find_matrices(model)
    read = checkpoint_moments(model, matrices, tmp_path / "optimizer.pt")
    sampled = sampled_moments(model, LayerPlan(cut_blocks(matrices, 8), 2), ROWS[:1], 100)
    share = 0.1 / 9**2  # 1 − β₂, and the Trainer's loss is a mean over 9 tokens where ours is a sum
    for name, moments in sampled.items():
        torch.testing.assert_close(read[name].rows, moments.rows * share, rtol=1e-3, atol=1e-12)
        torch.testing.assert_close(read[name].columns, moments.columns * share, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("gpt2", {}, "holds groups of [14, 26] parameters but the model has 30, 7 of them without"),
        ("llama", {"num_hidden_layers": 2}, "holds groups of [16, 5] parameters but the model has 30"),
        ("llama", {"intermediate_size": 48}, "are 48 x 24 but the model's weight is 40 x 24"),
        ("llama", {"num_key_value_heads": 4}, "are 24 x 24 but the model's weight is 12 x 24"),
    ],
)
def test_a_checkpoint_of_another_model(
    family: str, changes: dict[str, int], message: str, llama: Trained, tmp_path: Path
) -> None:
    other = train(tmp_path, family, "adamw_torch", **changes)
    assert message in refusal(llama, other.file)
    assert "own" in refusal(llama, other.file)


def test_an_optimizer_without_second_moments(tmp_path: Path) -> None:
    sgd = train(tmp_path, "llama", "sgd")
    message = refusal(sgd, sgd.file)
    assert message.endswith(
        "no second moments for model.layers.0.self_attn.q_proj.weight; was it trained by Adam or Adafactor?"
    )


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"{}", b"\x80\x04.", b"c", b"PK\x03\x04 nothing", b"0" * 999]
)
def test_a_file_of_something_else(content: bytes, llama: Trained, tmp_path: Path) -> None:
    (tmp_path / "optimizer.pt").write_bytes(content)
    assert "not an optimizer checkpoint" in refusal(llama, tmp_path / "optimizer.pt")


def test_a_checkpoint_that_was_cut_off(llama: Trained, tmp_path: Path) -> None:
    whole = llama.file.read_bytes()
    (tmp_path / "optimizer.pt").write_bytes(whole[: len(whole) // 2])
    assert "not an optimizer checkpoint" in refusal(llama, tmp_path / "optimizer.pt")


class Mischief:
    """Unpickled without care, it makes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.witness,))


def test_a_checkpoint_cannot_run_code(llama: Trained, tmp_path: Path) -> None:
    file, witness = tmp_path / "optimizer.pt", tmp_path / "witness"
    torch.save({"state": Mischief(witness), "param_groups": []}, file)
    assert "would run code" in refusal(llama, file)
    assert not witness.exists()
    torch.load(file, weights_only=False)  # the trap does work
    assert witness.exists()


@pytest.mark.parametrize("value", [[1, 2], {"state": {}}, {"model.norm.weight": torch.ones(2)}])
def test_tensors_that_are_no_optimizer_state(value: object, llama: Trained, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "optimizer.pt")
    message = refusal(llama, tmp_path / "optimizer.pt")
    assert message.endswith("not an optimizer checkpoint: 'state' and 'param_groups' are missing")


def test_files_that_cannot_be_opened(llama: Trained, tmp_path: Path) -> None:
    assert refusal(llama, tmp_path / "gone.pt").endswith("cannot be read: No such file or directory")
    assert refusal(llama, tmp_path).endswith("cannot be read: Is a directory")


def test_the_weights_of_the_checkpoint_do_not_matter(llama: Trained, tmp_path: Path) -> None:
    """A model with other weights and the same names and shapes reads the same moments."""
    shutil.copytree(llama.checkpoint, tmp_path / "checkpoint")
    make_model(tmp_path / "other", "llama", seed=9)
    other = load_model(str(tmp_path / "other"), device="cpu")
    mine = checkpoint_moments(llama.model, llama.matrices, llama.file)
    theirs = checkpoint_moments(other, find_matrices(other), tmp_path / "checkpoint" / "optimizer.pt")
    assert all(torch.equal(mine[name].rows, theirs[name].rows) for name in mine)
