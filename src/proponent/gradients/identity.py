"""What a model computes, as one checksum, and the versions of the packages that compute it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import nn
from xxhash import xxh3_128

# Settings of config.json that no logit depends on: origin, stored precision, other outputs, generation.
UNUSED = re.compile(
    "_name_or_path|_commit_hash|transformers_version|architectures|(torch_)?dtype|id2label|label2id|"
    "finetuning_task|task_specific_params|use_cache|output_attentions|output_hidden_states|return_dict|"
    "max_length|min_length|max_new_tokens|do_sample|num_beams|temperature|top_k|top_p|typical_p|"
    "repetition_penalty|length_penalty|no_repeat_ngram_size|early_stopping|num_return_sequences"
)


def fingerprint(causal: nn.Module, config: Mapping[str, Any]) -> str:
    """XXH3 (128 bits, hexadecimal) of every weight's name, dtype, shape and bytes, and of the configuration.

    causal: the model as loaded; its parameters and the buffers that are stored with it count, as float32.
    config: the content of its config.json, without the settings that ``UNUSED`` names.
    """
    digest = xxh3_128(json.dumps(_used(config), sort_keys=True).encode())
    for name, value in causal.state_dict().items():
        if value.is_floating_point() and value.dtype.itemsize < torch.float32.itemsize:
            value = value.float()  # a model is the same however its weights are held
        digest.update(f"\n{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())  # the bytes, not a copy
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """The versions of the packages that decide what a model computes, by name."""
    return {name: version(name) for name in ("proponent", "torch", "transformers", "tokenizers")}


def _used(config: Any) -> Any:
    if isinstance(config, list):
        return [_used(value) for value in config]
    if isinstance(config, Mapping):
        return {name: _used(value) for name, value in config.items() if not UNUSED.fullmatch(name)}
    return config
