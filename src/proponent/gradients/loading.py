"""Reading a model folder: the weights and the tokenizer, or one line that says why they cannot be used."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import logging as hub_logging
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig
from transformers.utils import logging as transformers_logging
from transformers.utils.peft_utils import find_adapter_config_file

from proponent.errors import InputError, first_line
from proponent.gradients.holding import WEIGHTS, choose_dtype, held_weights

HUB_ID = re.compile(r"(?![.~])[\w.-]+(/[\w.-]+)?")
CACHE_LINE = 64  # bytes; the widest load of a processor, too
# Masks and positions of old checkpoints, which current models compute.
COMPUTED = re.compile(
    r"\b(attn|attention)\.(bias|masked_bias|causal_mask)$|\b(inv_freq|position_ids|version)$"
)


def load_weights(
    name: str, trust_remote_code: bool, where: Sequence[torch.device] = ()
) -> tuple[Any, dict[str, Any]]:
    """The causal model on the CPU, in eval mode and frozen, and the content of its config.json.

    In float32; but where it goes to devices of little memory, its linear layers may be as they are stored.
    Raises InputError unless it fits there, every stored tensor is used, every parameter is stored, and the
    class that was saved is the one that computes here.
    """
    with _one_line(f"model '{name}' cannot be loaded"):
        settings: dict[str, Any] = PreTrainedConfig.get_config_dict(name)[0]
        _refuse_adapters(name)
        _refuse_quantised(name, settings)
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
        dtype = torch.float32
        if where:
            dtype = choose_dtype(name, config, where, trust_remote_code)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=trust_remote_code,
        )
    causal, report = loaded
    _refuse_another_class(name, settings, type(causal).__name__)
    _refuse_other_weights(name, report, type(causal).__name__)
    if dtype != torch.float32:
        _widen(name, causal)
    for parameter in causal.parameters():  # mapped from the file, where it may begin within a cache line
        if parameter.data_ptr() % CACHE_LINE:  # loads across two lines slow some products by half
            parameter.data = parameter.data.clone()
    return causal.eval().requires_grad_(False), settings


def _widen(name: str, causal: Any) -> None:
    """Take all weights to float32 but those that the products convert; InputError where more was rounded."""
    held = set(held_weights(causal))
    for parameter in causal.parameters():
        if parameter not in held:
            parameter.data = parameter.data.float()
    for path, buffer in causal.named_buffers():
        if buffer.is_floating_point() and buffer.dtype != torch.float32:
            raise InputError(
                f"model '{name}' does not fit in float32, and its '{path}' is rounded where it is held as it "
                "is stored; take a device with more memory"
            )


def load_config(name: str, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The configuration of a model folder or hub id, without its weights; InputError where there is none."""
    require_model(name)
    with _one_line(f"model '{name}' has no configuration that can be read"):
        found: PreTrainedConfig = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
        return found


def require_model(name: str) -> None:
    """Raise InputError for what is neither a folder nor may be a hub id."""
    if not os.path.isdir(name) and not HUB_ID.fullmatch(name):
        raise InputError(f"model folder '{name}' does not exist; give a Hugging Face model folder or hub id")


def require_files(name: str) -> None:
    """Raise InputError for a model that lacks what it is loaded from; only its config.json is read."""
    require_model(name)
    with _one_line(f"model '{name}' cannot be loaded"):
        settings: dict[str, Any] = PreTrainedConfig.get_config_dict(name)[0]
    if not settings or not has_weights(name):
        raise InputError(
            f"model '{name}' lacks its {'weights' if settings else 'config.json'}; put them back"
        )


def has_weights(name: str) -> bool:
    """Whether a model folder holds weights; a hub id is taken to have some."""
    found = (file for pattern in WEIGHTS for file in Path(name).glob(pattern))
    return not os.path.isdir(name) or any(found)


def load_tokenizer(name: str, trust_remote_code: bool) -> Any:
    """The tokenizer of a model folder; InputError where there is none that can be loaded."""
    what = f"model '{name}' has no tokenizer that can be loaded"
    with _one_line(what, "its folder needs a complete tokenizer.json"):
        return AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and warnings off stderr: what matters of them becomes an error here."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    hub_level = hub_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        hub_logging.set_verbosity(hub_level)
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _one_line(what: str, remedy: str = "") -> Iterator[None]:
    """Turn whatever the libraries raise over a folder's content into an InputError."""
    try:
        with quiet():
            yield
    except InputError:
        raise
    except Exception as error:  # any type at all: they depend on the file that is wrong
        if "trust_remote_code=True" in str(error):
            remedy = "pass trust_remote_code=True if you trust whoever wrote it"
            raise InputError(
                f"{what}: it needs Python code of its own, which is not run; {remedy}"
            ) from error
        said = first_line(error)
        raise InputError(f"{what} ({said}); {remedy}" if remedy else f"{what}: {said}") from error


def _refuse_adapters(name: str) -> None:
    files = [find_adapter_config_file(name), *map(str, sorted(Path(name).glob("adapter_model.*")))]
    if found := [Path(file).name for file in files if file]:
        raise InputError(
            f"model '{name}' has adapter files, first {found[0]}, which would not be applied; "
            "merge them into the base model (peft's merge_and_unload) and give the folder of the result"
        )


def _refuse_quantised(name: str, settings: Mapping[str, Any]) -> None:
    for part in (settings, *settings.values()):
        if isinstance(part, Mapping) and (found := part.get("quantization_config")):
            method = found.get("quant_method") if isinstance(found, Mapping) else found
            raise InputError(
                f"model '{name}' is quantised ({method}); gradients need its weights in full precision: "
                "give the folder that it was quantised from"
            )


def _refuse_another_class(name: str, settings: Mapping[str, Any], computed: str) -> None:
    """InputError where another class saved the weights, but for a model of several inputs, read as text."""
    saved = settings.get("architectures") or [computed]
    classes = [str(entry) for entry in saved] if isinstance(saved, list) else [str(saved)]
    part = "text_config" in settings and classes[0].endswith("ForConditionalGeneration")
    if not part and computed.lower() not in map(str.lower, classes):
        raise InputError(
            f"model '{name}' was saved as {classes[0]}, not as the causal language model {computed}; "
            "give a causal one, or correct 'architectures' in config.json where its weights are one"
        )


def _refuse_other_weights(name: str, report: Mapping[str, Any], computed: str) -> None:
    """InputError where the stored tensors are not exactly those of the model."""
    if mismatched := sorted(report["mismatched_keys"]):
        parameter, found, expected = mismatched[0]
        raise InputError(
            f"model '{name}': {parameter} has shape {list(found)} but config.json asks for {list(expected)}; "
            "give a folder whose config.json and weights belong together"
        )
    missing = sorted(report["missing_keys"])
    unused = sorted(key for key in report["unexpected_keys"] if not COMPUTED.search(key))
    holds = f"holds {len(unused)} tensors that {computed} would not use, first {unused[0]}" if unused else ""
    if missing:
        lacks = f"lacks weights for {len(missing)} parameters, first {missing[0]}"
        holds = f", and {holds}" if holds else ""
        raise InputError(f"model '{name}' {lacks}{holds}; give a folder with a complete model.safetensors")
    if unused:
        raise InputError(
            f"model '{name}' {holds}; give a folder whose weights are all the model's: adapters merged, "
            "no layers beyond config.json, no prefixes of a wrapper"
        )
