"""Tiny random models of the families that are supported, and a tokenizer to go with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    OlmoConfig,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from proponent.gradients.model import LanguageModel, load_model

VOCABULARY = 300
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
GROUPED = {**COMMON, "num_key_value_heads": 2}

FAMILIES: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**GROUPED),
    "qwen2": lambda: Qwen2Config(**GROUPED),
    "qwen3": lambda: Qwen3Config(**GROUPED, head_dim=6),
    "gemma": lambda: GemmaConfig(**GROUPED, head_dim=6),
    # soft-capped logits: the head is more than a matrix
    "gemma2": lambda: Gemma2Config(**GROUPED, head_dim=6, final_logit_softcapping=2.0, sliding_window=8),
    "olmo": lambda: OlmoConfig(**GROUPED),
    "olmo2": lambda: Olmo2Config(**GROUPED),
    "mistral": lambda: MistralConfig(**GROUPED, sliding_window=8),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY, n_embd=24, n_layer=3, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
    ),
    "gpt_neox": lambda: GPTNeoXConfig(**COMMON, rotary_pct=0.5),
    "phi": lambda: PhiConfig(**{**COMMON, "num_attention_heads": 3, "partial_rotary_factor": 0.5}),
}


def byte_tokenizer(with_bos: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges, so every ASCII text of t characters is t tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, **{letter: n + 1 for n, letter in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if with_bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


def make_model(folder: Path, family: str = "llama", seed: int = 0, **changes: Any) -> Path:
    """Save a tiny random model of a family; its weights are large enough to make attention matter."""
    torch.manual_seed(seed)
    config = FAMILIES[family]()
    for name, value in changes.items():
        setattr(config, name, value)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def tiny_model(folder: Path, family: str = "llama", **changes: Any) -> LanguageModel:
    """Make a tiny model and load it as proponent does."""
    return load_model(str(make_model(folder, family, **changes)), device="cpu")
