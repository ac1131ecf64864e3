"""A loaded model: its two parts, its precision, its device and the tokens it knows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.folders import refusal, save_random
from tests.models import COMMON, FAMILIES, VOCABULARY, byte_tokenizer
from transformers import (
    BartConfig,
    BartForCausalLM,
    FalconH1Config,
    FalconH1ForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from proponent.corpus.encoding import TextEncoder
from proponent.corpus.example import Example, Query
from proponent.errors import InputError
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.placement import pick_device

Shared = Callable[[str], LanguageModel]
Folder = Callable[[str], Path]
TOKENS = torch.tensor([[0, 5, 9, 200, 31, 7, 88, 12, 3, 4], [0, 17, 3, 250, 1, 1, 1, 90, 91, 2]])


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


def test_tokens_that_the_model_does_not_know(copy: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([f"<extra{n}>" for n in range(VOCABULARY - len(tokenizer))] + ["zebra"])
    tokenizer.save_pretrained(copy)
    model = load_model(str(copy), device="cpu")  # it may never be asked for one
    encoder = model.encoder
    assert list(encoder.chunks(Example("p1", "A horse.", "corpus.jsonl:1"), 48))
    for place, encode in {
        "corpus.jsonl:2": lambda: list(encoder.chunks(Example("p2", "A zebra.", "corpus.jsonl:2"), 48)),
        "queries.jsonl:3": lambda: encoder.query(
            Query("q", "This is a", "zebra", place="queries.jsonl:3"), 48
        ),
        "the prompt": lambda: encoder.prompt("A zebra"),
    }.items():
        with pytest.raises(InputError) as caught:
            encode()
        assert str(caught.value) == (
            f"{place}: its token 300 ('zebra') is unknown to the model, which has 300 tokens; "
            "use the tokenizer that the model was trained with"
        )


def test_tokens_that_can_be_read_but_not_predicted() -> None:
    encoder = TextEncoder(byte_tokenizer(), known=60)
    assert encoder.prompt("0")
    with pytest.raises(InputError, match=r"the prompt: its token \d+ \('z'\) is unknown to the model"):
        encoder.prompt("z")


def decoders() -> dict[str, PreTrainedModel]:
    """Models whose head does more than call the decoder: it calls a part of it, or reads its settings."""
    common: dict[str, Any] = {"vocab_size": VOCABULARY, "max_position_embeddings": 64, "pad_token_id": 1}
    seq2seq = {"d_model": 24, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 40}
    opt = {"hidden_size": 24, "ffn_dim": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    mamba = {
        "mamba_d_ssm": 48,
        "mamba_n_heads": 4,
        "mamba_d_head": 12,
        "mamba_n_groups": 1,
        "mamba_d_state": 4,
    }
    return {
        "bart": BartForCausalLM(BartConfig(**common, **seq2seq)),
        "opt": OPTForCausalLM(OPTConfig(**common, **opt, word_embed_proj_dim=24)),
        "falcon_h1": FalconH1ForCausalLM(
            FalconH1Config(**{**COMMON, "num_key_value_heads": 2}, **mamba, lm_head_multiplier=0.5)
        ),
    }


@pytest.mark.parametrize("kind", ["bart", "opt", "falcon_h1"])
def test_heads_that_look_into_their_decoder(kind: str, tmp_path: Path) -> None:
    model = load_model(str(save_random(decoders()[kind], tmp_path)), device="cpu")
    with torch.no_grad():
        whole = model.causal(input_ids=TOKENS, use_cache=False).logits
        torch.testing.assert_close(model.logits(model.hidden(TOKENS).flatten(0, 1)), whole.flatten(0, 1))
