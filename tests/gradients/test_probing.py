"""What two short forward passes at load refuse, and what they find out about positions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.folders import edit_config, edit_weights, refusal, save_random
from tests.models import COMMON, GROUPED, VOCABULARY, make_model
from torch import Tensor
from transformers import (
    BertConfig,
    BertLMHeadModel,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    MptConfig,
    MptForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    ProphetNetConfig,
    ProphetNetForCausalLM,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    RobertaConfig,
    RobertaForCausalLM,
    XLNetConfig,
    XLNetLMHeadModel,
)

from proponent.gradients.model import LanguageModel, load_model

Shared = Callable[[str], LanguageModel]
Folder = Callable[[str], Path]
TEXT = {**GROUPED, "head_dim": 6, "num_hidden_layers": 2}
SLIDING = {"layer_types": ["sliding_attention", "sliding_attention"]}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
NOT_CAUSAL: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": lambda: BertLMHeadModel(BertConfig(**COMMON)),
    # what a token sees of later ones is hidden by a narrow window but for the next one
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**TEXT, **SLIDING, sliding_window=2, use_bidirectional_attention=True)
    ),
    "xlnet": lambda: XLNetLMHeadModel(
        XLNetConfig(vocab_size=VOCABULARY, d_model=24, n_layer=2, n_head=4, d_head=6, d_inner=40)
    ),
}


@pytest.mark.parametrize("kind", NOT_CAUSAL)
def test_a_model_that_is_not_causal(kind: str, tmp_path: Path) -> None:
    folder = save_random(NOT_CAUSAL[kind](), tmp_path)
    assert "is not causal: the last token changes the logits of those before it; give a" in refusal(folder)


def test_a_causal_class_told_not_to_be(copy: Path) -> None:
    edit_config(copy, is_causal=False)
    assert "is not causal" in refusal(copy)


@pytest.mark.parametrize("window", [1, 2, 3])
def test_a_narrow_window_is_causal(window: int, tmp_path: Path) -> None:
    folder = make_model(tmp_path, "mistral", sliding_window=window)
    assert load_model(str(folder), device="cpu").max_positions == 64


def test_a_head_that_reads_more_than_hidden_states(tmp_path: Path) -> None:
    config = ProphetNetConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        decoder_ffn_dim=40,
        num_decoder_layers=2,
        num_decoder_attention_heads=4,
        max_position_embeddings=64,
        is_decoder=True,
        is_encoder_decoder=False,
        add_cross_attention=False,
    )
    folder = save_random(ProphetNetForCausalLM(config), tmp_path)
    assert "its logits cannot be made of the last hidden state alone (" in refusal(folder)


def test_a_head_that_makes_other_logits(model_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    right = LanguageModel.hidden
    monkeypatch.setattr(LanguageModel, "hidden", lambda self, tokens: right(self, tokens) * 1.01)
    assert "its logits are not those that its head makes of the last" in refusal(model_folder("llama"))


def test_heads_that_do_not_divide(tmp_path: Path) -> None:
    """The shapes fit, and no check of the configuration sees it."""
    folder = make_model(tmp_path, "llama", num_key_value_heads=3)
    assert "its forward pass fails (" in refusal(folder)


def test_weights_that_are_not_numbers(copy: Path) -> None:
    edit_weights(copy, lambda weights: weights["model.norm.weight"].fill_(float("nan")))
    assert "gives no finite logit for 6 tokens; its weights are damaged" in refusal(copy)


def test_one_unusable_token_is_no_reason_to_refuse(copy: Path) -> None:
    edit_weights(copy, lambda weights: weights["lm_head.weight"][70].fill_(float("nan")))
    assert load_model(str(copy), device="cpu").vocabulary == VOCABULARY


SMALL = {"vocab_size": VOCABULARY, "max_position_embeddings": 64}
# kind: (model, the longest row it can read)
POSITIONS: dict[str, tuple[Callable[[], PreTrainedModel], int]] = {
    "opt": (
        lambda: OPTForCausalLM(
            OPTConfig(
                **SMALL,
                hidden_size=24,
                ffn_dim=40,
                num_hidden_layers=2,
                num_attention_heads=4,
                word_embed_proj_dim=24,
            )
        ),
        64,
    ),
    "roberta": (
        lambda: RobertaForCausalLM(RobertaConfig(**{**COMMON, "pad_token_id": 1}, is_decoder=True)),
        62,
    ),
    "roberta, padding at 9": (
        lambda: RobertaForCausalLM(RobertaConfig(**{**COMMON, "pad_token_id": 9}, is_decoder=True)),
        54,
    ),
    "mpt": (
        lambda: MptForCausalLM(
            MptConfig(d_model=24, n_heads=4, n_layers=2, max_seq_len=64, vocab_size=VOCABULARY)
        ),
        64,
    ),
}


@pytest.mark.parametrize("kind", POSITIONS)
def test_the_longest_row_is_the_longest_that_can_be_read(kind: str, tmp_path: Path) -> None:
    make, longest = POSITIONS[kind]
    model = load_model(str(save_random(make(), tmp_path)), device="cpu")
    assert model.max_positions == longest
    with torch.no_grad():
        assert model.hidden(row(longest)).isfinite().all()
        with pytest.raises((IndexError, RuntimeError)):
            model.hidden(row(longest + 1))


def row(tokens: int) -> Tensor:
    return torch.randint(20, 250, (1, tokens), generator=torch.Generator().manual_seed(0))


NESTED: dict[str, Callable[[], PreTrainedModel]] = {
    "gemma3": lambda: Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config={**TEXT, "layer_types": ["sliding_attention", "full_attention"]},
            vision_config={**VISION, "image_size": 28, "patch_size": 14},
            mm_tokens_per_image=4,
        )
    ),
    "qwen3_5": lambda: Qwen3_5ForConditionalGeneration(
        Qwen3_5Config(
            text_config={**TEXT, "layer_types": ["full_attention", "full_attention"]},
            vision_config={"hidden_size": 16, "intermediate_size": 16, "depth": 1, "num_heads": 2},
        )
    ),
}


@pytest.mark.parametrize("kind", NESTED)
def test_positions_and_vocabulary_of_a_model_of_several_kinds_of_input(kind: str, tmp_path: Path) -> None:
    """Of the second, only the part for text is read."""
    model = load_model(str(save_random(NESTED[kind](), tmp_path)), device="cpu")
    assert (model.max_positions, model.vocabulary) == (64, VOCABULARY)


LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 3,
    "long_factor": [4.0, 8.0, 16.0],
    "original_max_position_embeddings": 16,
}


@pytest.fixture(scope="module")
def longrope(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    config = Phi3Config(**GROUPED, original_max_position_embeddings=16, rope_parameters=LONGROPE)
    folder = save_random(Phi3ForCausalLM(config), tmp_path_factory.mktemp("longrope"))
    return load_model(str(folder), device="cpu")


def test_rows_on_either_side_of_the_break_get_other_positions(longrope: LanguageModel) -> None:
    """Up to the break, and above it, more padding changes nothing."""
    assert longrope.position_break == 16
    tokens = row(40)
    alone, padded, long, longer = (longrope.hidden(tokens[:, :n])[:, :10] for n in (10, 16, 17, 40))
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(longer, long, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(long, alone, rtol=1e-2, atol=1e-2)


def test_the_break_where_kinds_of_layers_have_positions_of_their_own(tmp_path: Path) -> None:
    rope = {"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}, "full_attention": LONGROPE}
    config = Gemma3TextConfig(**TEXT, layer_types=list(rope), sliding_window=8, rope_parameters=rope)
    model = load_model(str(save_random(Gemma3ForCausalLM(config), tmp_path)), device="cpu")
    assert model.position_break == 16
    short, long = (model.hidden(row(40)[:, :n])[:, :10] for n in (16, 17))
    assert not torch.allclose(long, short, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", ["dynamic", "linear", "yarn", "llama3"])
def test_other_positions_are_the_same_for_every_length(kind: str, copy: Path) -> None:
    """Dynamic ones follow the longest row seen, but only beyond what the model is said to read."""
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
    edit_config(copy, rope_parameters={**rope, "low_freq_factor": 1.0, "high_freq_factor": 4.0})
    model = load_model(str(copy), device="cpu")
    assert (model.position_break, model.max_positions) == (None, 64)
    alone = model.hidden(row(64)[:, :10])
    torch.testing.assert_close(model.hidden(row(64))[:, :10], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.hidden(row(64)[:, :10]), alone, rtol=1e-4, atol=1e-5)
    if kind == "dynamic":
        assert not torch.allclose(model.hidden(row(200))[:, :10], alone, rtol=1e-2, atol=1e-2)
