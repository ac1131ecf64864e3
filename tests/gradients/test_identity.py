"""The fingerprint of a model: every byte of its weights, and every setting that its logits depend on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folders import edit_config, edit_weights
from tests.models import make_model
from torch import nn
from xxhash import xxh3_128

from proponent.gradients.identity import fingerprint, versions
from proponent.gradients.model import LanguageModel, load_model

Shared = Callable[[str], LanguageModel]
Folder = Callable[[str], Path]


def test_fingerprint_is_the_same_for_a_reload(model_folder: Folder, copy: Path, shared_model: Shared) -> None:
    assert load_model(str(copy), device="cpu").identity == shared_model("llama").identity


def test_fingerprint_tells_models_apart(tmp_path: Path, shared_model: Shared) -> None:
    other_seed = make_model(tmp_path / "seed", "llama", seed=1)
    other_shape = make_model(tmp_path / "shape", "llama", num_hidden_layers=2)
    prints = {load_model(str(folder), device="cpu").identity for folder in (other_seed, other_shape)}
    prints |= {shared_model(family).identity for family in ("llama", "mistral")}
    assert len(prints) == 4  # Llama and Mistral have the same weights here, but are not the same model


def test_fingerprint_sees_one_layer_that_was_trained_on(copy: Path, shared_model: Shared) -> None:
    edit_weights(copy, lambda weights: weights["model.layers.1.mlp.up_proj.weight"].mul_(1.001))
    assert load_model(str(copy), device="cpu").identity != shared_model("llama").identity


def test_fingerprint_sees_where_a_weight_sits(copy: Path, shared_model: Shared) -> None:
    def swap(weights: dict[str, torch.Tensor]) -> None:
        q, o = (f"model.layers.0.self_attn.{name}_proj.weight" for name in "qo")
        weights[q], weights[o] = weights[o].clone(), weights[q].clone()

    edit_weights(copy, swap)
    assert load_model(str(copy), device="cpu").identity != shared_model("llama").identity


@given(draw=st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_the_fingerprint_sees_any_bit(draw: Any, shared_model: Shared) -> None:
    model = shared_model("gpt2")
    before = fingerprint(model.causal, {})
    name, value = draw.choice(list(model.causal.named_parameters()))
    at, bit = draw.randrange(value.numel()), 1 << draw.randrange(23)
    bits = value.detach().view(torch.int32).view(-1)
    bits[at] ^= bit
    try:
        assert fingerprint(model.causal, {}) != before, name
    finally:
        bits[at] ^= bit
    assert fingerprint(model.causal, {}) == before


def test_the_fingerprint_by_hand() -> None:
    """Parameters and stored buffers, each with its name, type and shape; no buffer that is not stored."""
    module = nn.Linear(3, 2, bias=False, dtype=torch.bfloat16)
    module.register_buffer("scale", torch.tensor(3, dtype=torch.int64))
    module.register_buffer("cache", torch.zeros(5), persistent=False)
    raw = (
        b'{"b": [1, {"c": 2}]}\nweight torch.float32 [2, 3]\n'
        + module.weight.detach().float().numpy().tobytes()
        + b"\nscale torch.int64 []\n"
        + (3).to_bytes(8, "little")
    )
    assert fingerprint(module, {"b": [1, {"c": 2, "dtype": "x"}]}) == xxh3_128(raw).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"rms_norm_eps": 1e-5},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 20000.0}},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
    ],
    ids=str,
)
def test_the_fingerprint_sees_a_setting_that_the_logits_depend_on(
    change: dict[str, Any], copy: Path, shared_model: Shared
) -> None:
    edit_config(copy, **change)
    other = load_model(str(copy), device="cpu")
    row = torch.tensor([[0, 5, 9, 200, 31]])
    assert not torch.allclose(other.hidden(row), shared_model("llama").hidden(row), rtol=1e-4)
    assert other.identity != shared_model("llama").identity


def test_the_fingerprint_passes_over_settings_that_no_logit_depends_on(
    copy: Path, shared_model: Shared
) -> None:
    config = json.loads((copy / "config.json").read_text())
    edit_config(
        copy,
        _name_or_path="elsewhere",
        transformers_version="5.0.0",
        dtype="float32",
        use_cache=not config["use_cache"],
        architectures=[*config["architectures"], "Another"],
        temperature=0.5,
    )
    assert load_model(str(copy), device="cpu").identity == shared_model("llama").identity


def test_the_fingerprint_is_of_the_model_as_loaded(model_folder: Folder) -> None:
    model = load_model(str(model_folder("llama")), device="cpu")
    before = model.identity
    model.multiply_in("bfloat16")
    assert model.identity == model.replica().identity == before


def test_a_stored_head_that_differs_from_the_tied_embedding_counts(
    tmp_path: Path, model_folder: Folder
) -> None:
    """Transformers then computes with both, and so does the fingerprint."""
    folder = make_model(tmp_path / "tied", "llama", tie_word_embeddings=True)
    before = load_model(str(folder), device="cpu").identity
    edit_weights(folder, lambda weights: weights.update({"lm_head.weight": torch.ones(300, 24)}))
    model = load_model(str(folder), device="cpu")
    assert torch.equal(model.causal.lm_head.weight, torch.ones(300, 24))
    assert model.identity != before


def test_versions_are_those_of_the_packages() -> None:
    assert versions().keys() == {"proponent", "torch", "transformers", "tokenizers"}
    assert versions()["torch"] == torch.__version__
