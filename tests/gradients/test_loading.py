"""What is said of model folders that cannot be used, and of those whose content is not what is computed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.folders import edit_config, edit_weights, refusal, save_random
from tests.models import FAMILIES, VOCABULARY
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from proponent.gradients.model import load_model

Folder = Callable[[str], Path]
Weights = dict[str, torch.Tensor]


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
    refusal(copy)
    edit_weights(copy, lambda weights: weights.pop("model.norm.weight"))
    refusal(copy)


def test_loading_leaves_the_verbosity_as_it_was(model_folder: Folder) -> None:
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_info()
    transformers_logging.enable_progress_bar()
    try:
        load_model(str(model_folder("llama")), device="cpu")
        assert transformers_logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity(before)


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


def prefix(weights: Weights) -> None:
    for name in list(weights):
        weights[f"_orig_mod.{name}"] = weights.pop(name)


def add_lora(weights: Weights) -> None:
    weights["model.layers.0.self_attn.q_proj.lora_A.weight"] = torch.randn(4, 24)
    weights["model.layers.0.self_attn.q_proj.lora_B.weight"] = torch.randn(24, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            add_lora,
            "holds 2 tensors that LlamaForCausalLM would not use, first model.layers.0.self_attn.q_proj.",
        ),
        (prefix, "lacks weights for 30 parameters, first lm_head.weight, and holds 30 tensors that"),
        (prefix, "first _orig_mod.lm_head.weight;"),
    ],
)
def test_weights_that_would_not_be_used(change: Callable[[Weights], None], message: str, copy: Path) -> None:
    edit_weights(copy, change)
    assert message in refusal(copy)


def test_fewer_layers_than_are_stored(copy: Path) -> None:
    edit_config(copy, num_hidden_layers=2, layer_types=None)
    assert "holds 9 tensors that LlamaForCausalLM would not use, first model.layers.2.input" in refusal(copy)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("gpt2", "transformer.h.0.attn.bias"),
        ("gpt2", "transformer.h.0.attn.masked_bias"),
        ("gpt_neox", "gpt_neox.layers.0.attention.bias"),
        ("gpt_neox", "gpt_neox.layers.0.attention.rotary_emb.inv_freq"),
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("olmo", "model.layers.0.attn.attention.masked_bias"),  # as GPT-Neo's
    ],
)
def test_masks_and_frequencies_of_old_checkpoints_may_be_stored(
    family: str, name: str, tmp_path: Path, model_folder: Folder
) -> None:
    folder = Path(shutil.copytree(model_folder(family), tmp_path / "model"))
    edit_weights(folder, lambda weights: weights.update({name: torch.ones(1, 1, 64, 64)}))
    assert load_model(str(folder), device="cpu").max_positions == 64


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
@pytest.mark.parametrize("alone", [False, True])
def test_adapter_files(name: str, alone: bool, copy: Path) -> None:
    (copy / name).write_text("{}")
    if alone:
        (copy / "model.safetensors").unlink()
    assert f"has adapter files, first {name}, which would not be applied; merge" in refusal(copy)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_classifier(family: str, tmp_path: Path) -> None:
    """GPT-2's head is its embedding, so that no weight would be missing."""
    config = FAMILIES[family]()
    config.num_labels, config.tie_word_embeddings = 3, True
    folder = save_random(AutoModelForSequenceClassification.from_config(config), tmp_path)
    assert "ForSequenceClassification, not as the causal language model " in refusal(folder)


@pytest.mark.parametrize("names", [None, [], ["LLaMAForCausalLM"], ["Other", "LlamaForCausalLM"]])
def test_architectures_that_are_not_foreign(names: object, copy: Path) -> None:
    edit_config(copy, architectures=names)
    assert load_model(str(copy), device="cpu").vocabulary == VOCABULARY


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8", "compressed-tensors"])
def test_a_quantised_model(method: str, copy: Path) -> None:
    """With its package or without."""
    edit_config(copy, quantization_config={"quant_method": method, "bits": 4})
    assert f"is quantised ({method}); gradients need its weights in full precision" in refusal(copy)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_hidden_layers", "x", "Field 'num_hidden_layers' expected int, got str (value: 'x')"),
        ("hidden_size", None, "Field 'hidden_size' expected int"),
        ("vocab_size", [3], "Field 'vocab_size' expected int"),
        ("rope_parameters", 7, "Field 'rope_parameters' with value 7"),
        ("rope_parameters", {"rope_type": "zzz"}, "KeyError: 'zzz'"),
        ("hidden_act", "foo", "KeyError: 'foo'"),
        ("max_position_embeddings", "many", "Field 'max_position_embeddings' expected int"),
        ("head_dim", 0, "cannot be raised"),
        ("dtype", "float99", "float99"),
        ("pad_token_id", 5000, "Padding_idx"),
        (
            "num_attention_heads",
            5,
            "The hidden size (24) is not a multiple of the number of attention heads (5)",
        ),
        ("architectures", "Llama", "was saved as Llama, not as"),
        ("quantization_config", "abc", "is quantised (abc)"),
    ],
)
def test_a_config_with_a_value_that_cannot_be(name: str, value: object, message: str, copy: Path) -> None:
    edit_config(copy, **{name: value})
    assert message in refusal(copy)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"'])
def test_a_config_that_is_no_object(content: str, copy: Path) -> None:
    (copy / "config.json").write_text(content)
    assert f"model '{copy}' cannot be loaded: " in refusal(copy)
