"""Loading a model: its two parts, its fingerprint, and what is said of folders that cannot be used."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models import FAMILIES, VOCABULARY, make_model
from transformers.utils import logging as transformers_logging

from proponent.errors import InputError
from proponent.gradients.model import LanguageModel, load_model, pick_device

Shared = Callable[[str], LanguageModel]
Folder = Callable[[str], Path]
TOKENS = torch.tensor([[0, 5, 9, 200, 31, 7, 88, 12, 3, 4], [0, 17, 3, 250, 1, 1, 1, 90, 91, 2]])


@pytest.fixture
def copy(tmp_path: Path, model_folder: Folder) -> Path:
    """A tiny Llama's folder to spoil."""
    return Path(shutil.copytree(model_folder("llama"), tmp_path / "model"))


def refusal(folder: Path | str, **arguments: Any) -> str:
    """The one line of the InputError that loading ends with."""
    with pytest.raises(InputError) as caught:
        load_model(str(folder), **{"device": "cpu", **arguments})
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize("family", ["llama", "gpt2"])  # of the latter, the head is the embedding
def test_parameters_begin_at_cache_lines_wherever_they_lie_in_the_file(
    family: str, tmp_path: Path, model_folder: Folder
) -> None:
    folder = Path(shutil.copytree(model_folder(family), tmp_path / "model"))
    expected = load_file(folder / "model.safetensors")
    for filler in range(64):  # the header's length decides where numbers begin
        save_file(expected, folder / "model.safetensors", {"format": "pt", "filler": filler * " "})
        if int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little") % 64 != 56:
            break
    causal = load_model(str(folder), "cpu").causal
    parameters = dict(causal.named_parameters())
    assert all(value.data_ptr() % 64 == 0 for value in parameters.values())
    assert all(torch.equal(parameters[name], value) for name, value in expected.items() if name in parameters)
    tied = causal.get_output_embeddings().weight is causal.get_input_embeddings().weight
    assert tied == causal.config.tie_word_embeddings


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_and_head_make_the_models_own_logits(family: str, shared_model: Shared) -> None:
    """Soft caps, biases and tied weights included."""
    model = shared_model(family)
    with torch.no_grad():
        whole = model.causal(input_ids=TOKENS, use_cache=False).logits
        hidden = model.hidden(TOKENS)
        torch.testing.assert_close(model.logits(hidden.flatten(0, 1)), whole.flatten(0, 1).float())
    assert model.vocabulary == VOCABULARY == whole.shape[-1]


def test_the_head_of_gemma2_is_more_than_a_matrix(shared_model: Shared) -> None:
    """Else the test above would not see a soft cap that is left out."""
    model = shared_model("gemma2")
    with torch.no_grad():
        hidden = model.hidden(TOKENS)[0]
        plain = model.causal.get_output_embeddings()(hidden)
        torch.testing.assert_close(model.logits(hidden), 2 * torch.tanh(plain / 2))
    assert plain.abs().max() > 2


def test_the_head_leaves_the_model_whole(shared_model: Shared) -> None:
    model = shared_model("llama")
    decoder = model.causal.base_model
    with torch.no_grad():
        model.logits(torch.zeros(3, 24))
        again = model.causal(input_ids=TOKENS).logits
    assert model.causal.base_model is decoder
    assert again.shape == (2, 10, VOCABULARY)


def test_a_loaded_model_is_frozen_and_in_eval_mode(shared_model: Shared) -> None:
    model = shared_model("gpt2")  # whose configuration asks for dropout
    assert not model.causal.training
    assert not any(p.requires_grad for p in model.causal.parameters())
    assert model.max_positions == 64
    assert model.device == torch.device("cpu")


def test_bfloat16_models_give_float32_logits(model_folder: Folder) -> None:
    model = load_model(str(model_folder("llama")), device="cpu")
    model.multiply_in("bfloat16")
    hidden = model.hidden(TOKENS)
    assert hidden.dtype == torch.float32  # only products are rounded
    assert model.logits(hidden[0]).dtype == torch.float32


class Listener(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


def test_loading_says_nothing(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither when it works nor when weights lack or abound, where transformers would log a report.

    Its log goes to the stderr of the time when it was imported, which capfd does not see.
    """
    logger = logging.getLogger("transformers")
    logger.addHandler(listener := Listener())
    try:
        load_with_and_without_its_weights(copy)
    finally:
        logger.removeHandler(listener)
    assert listener.heard == []
    assert tuple(capfd.readouterr()) == ("", "")


def load_with_and_without_its_weights(copy: Path) -> None:
    load_model(str(copy), device="cpu")
    edit_weights(copy, lambda weights: weights.update(stray=torch.zeros(2)))
    load_model(str(copy), device="cpu")
    edit_weights(copy, lambda weights: weights.pop("model.norm.weight"))
    refusal(copy)


def test_loading_leaves_the_verbosity_as_it_was(model_folder: Folder) -> None:
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_info()
    try:
        load_model(str(model_folder("llama")), device="cpu")
        assert transformers_logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity(before)


def test_fingerprint_is_the_same_for_a_reload(model_folder: Folder, copy: Path, shared_model: Shared) -> None:
    assert load_model(str(copy), device="cpu").fingerprint() == shared_model("llama").fingerprint()


def test_fingerprint_tells_models_apart(tmp_path: Path, shared_model: Shared) -> None:
    other_seed = make_model(tmp_path / "seed", "llama", seed=1)
    other_shape = make_model(tmp_path / "shape", "llama", num_hidden_layers=2)
    prints = {load_model(str(folder), device="cpu").fingerprint() for folder in (other_seed, other_shape)}
    prints |= {shared_model(family).fingerprint() for family in ("llama", "mistral")}
    # Llama and Mistral are the same network here: same names, shapes and seed
    assert shared_model("llama").fingerprint() == shared_model("mistral").fingerprint()
    assert len(prints) == 3


def test_fingerprint_sees_one_layer_that_was_trained_on(copy: Path, shared_model: Shared) -> None:
    edit_weights(copy, lambda weights: weights["model.layers.1.mlp.up_proj.weight"].mul_(1.001))
    assert load_model(str(copy), device="cpu").fingerprint() != shared_model("llama").fingerprint()


def test_fingerprint_sees_where_a_weight_sits(copy: Path, shared_model: Shared) -> None:
    def swap(weights: dict[str, torch.Tensor]) -> None:
        q, o = (f"model.layers.0.self_attn.{name}_proj.weight" for name in "qo")
        weights[q], weights[o] = weights[o].clone(), weights[q].clone()

    edit_weights(copy, swap)
    assert load_model(str(copy), device="cpu").fingerprint() != shared_model("llama").fingerprint()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    message = refusal(tmp_path / "nowhere")
    assert message.startswith(f"model folder '{tmp_path / 'nowhere'}' does not exist; give a")


def test_a_folder_without_weights(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert "Error no file named model.safetensors" in refusal(copy)


def test_a_folder_with_some_of_its_weights(copy: Path) -> None:
    edit_weights(copy, lambda weights: [weights.pop(f"model.layers.{n}.mlp.up_proj.weight") for n in (1, 2)])
    message = refusal(copy)
    assert "lacks weights for 2 parameters, first model.layers.1.mlp.up_proj.weight" in message


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_tied_embeddings_are_not_missing_weights(family: str, model_folder: Folder) -> None:
    assert "lm_head.weight" not in load_file(model_folder(family) / "model.safetensors")
    assert load_model(str(model_folder(family)), device="cpu").vocabulary == VOCABULARY


def test_weights_of_another_shape(copy: Path) -> None:
    edit_config(copy, intermediate_size=48)
    message = refusal(copy)
    assert "has shape [24, 40] but config.json asks for [24, 48]" in message


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_weights_that_are_no_safetensors(content: bytes | None, copy: Path) -> None:
    """None: the file's first half."""
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert f"model '{copy}' cannot be loaded: " in refusal(copy)


def test_a_config_that_is_no_json(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    assert "not a valid JSON file" in refusal(copy)


def test_an_empty_folder(tmp_path: Path) -> None:
    assert f"model '{tmp_path}' cannot be loaded: " in refusal(tmp_path)


@pytest.mark.parametrize(
    ("kind", "message"), [("t5", "AutoModelForCausalLM"), ("nonesuch", "model type `nonesuch`")]
)
def test_a_model_that_is_no_causal_one(kind: str, message: str, copy: Path) -> None:
    edit_config(copy, model_type=kind)
    assert message in refusal(copy)


@pytest.mark.parametrize("content", [None, "{", "{}", '{"version": "1.0", "added_tokens": [], "model": 3}'])
def test_a_tokenizer_that_cannot_be_loaded(content: str | None, copy: Path) -> None:
    """None: there is none."""
    if content is None:
        (copy / "tokenizer.json").unlink()
    else:
        (copy / "tokenizer.json").write_text(content)
    message = refusal(copy)
    assert message.startswith(f"model '{copy}' has no tokenizer that can be loaded (")
    assert message.endswith("; its folder needs a complete tokenizer.json")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(model_folder: Folder) -> None:
    message = refusal(model_folder("llama"), device="cuda")
    assert message.startswith("device 'cuda' cannot be used here: ")


def test_a_device_that_does_not_exist(model_folder: Folder) -> None:
    assert refusal(model_folder("llama"), device="abacus").startswith("device 'abacus' cannot be used here: ")


def test_picking_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert pick_device(None) == torch.device("cpu")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert pick_device(None) == torch.device("mps")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert pick_device(None) == torch.device("cuda")
    assert pick_device("cpu") == torch.device("cpu")
