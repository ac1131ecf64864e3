"""Loading a causal language model, frozen, with its tokenizer and the fingerprints of both."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.utils import logging as transformers_logging

from proponent.corpus.encoding import TextEncoder
from proponent.errors import InputError, first_line
from proponent.gradients.linear import multiply_fast, product_dtype

FINGERPRINT_SAMPLES = 1024
CACHE_LINE = 64  # bytes; the widest load of a processor, too
HUB_ID = re.compile(r"(?![.~])[\w.-]+(/[\w.-]+)?")


@dataclass
class _Answer(BaseModelOutputWithPastAndCrossAttentions):
    """A decoder's output; what else a head may pass on, such as a recurrent state, it finds to be None."""

    def __getattr__(self, _: str) -> None:
        return None


class _Replay(nn.Module):
    """Stands in for a decoder: whatever it is asked, it answers with given hidden states."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self._hidden = hidden

    def forward(self, *_: Any, **__: Any) -> _Answer:
        return _Answer(last_hidden_state=self._hidden)


@dataclass(frozen=True)
class LanguageModel:
    """A frozen causal language model in two parts, and the tokenizer that goes with it.

    causal: the whole Hugging Face model in eval mode, no parameter requiring grad.
    encoder: its tokenizer.  device: where it computes.  max_positions: longest input, None if unknown.
    """

    causal: Any
    encoder: TextEncoder
    device: torch.device
    max_positions: int | None

    @property
    def position_break(self) -> int | None:
        return None

    @property
    def vocabulary(self) -> int:
        """Number of logits a position."""
        return int(self.causal.get_output_embeddings().weight.shape[0])

    def hidden(self, tokens: Tensor) -> Tensor:
        """Last hidden states [n, t, h] of token ids [n, t], without computing any logits.

        No attention mask is given: rows are padded on the right and attention is causal, so no token
        that counts ever sees a padding token.
        """
        output: Tensor = self.causal.base_model(input_ids=tokens, use_cache=False)[0]
        return output

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [m, v] in float32 of hidden states [m, h].

        This is the model's own forward with its decoder replaced by ``hidden``, so that soft-capping,
        scaling and biases of any architecture are the model's own.
        """
        head = copy.copy(self.causal)  # shares every parameter; only the decoder is swapped
        head._modules = {**self.causal._modules, self.causal.base_model_prefix: _Replay(hidden[None])}
        output: Tensor = head(inputs_embeds=hidden[None], use_cache=False).logits.squeeze(0)
        return output.float()

    def multiply_in(self, dtype: str) -> None:
        """Let the linear modules multiply in ``float32`` or ``bfloat16``; see ``multiply_fast``."""
        multiply_fast(self.causal, getattr(torch, dtype))

    @property
    def dtype(self) -> torch.dtype:
        """The precision that its linear modules multiply in."""
        return product_dtype(self.causal)

    def replica(self) -> LanguageModel:
        """The same model for another thread: modules of its own, to be hooked, around the same parameters."""
        shared = {id(parameter): parameter for parameter in self.causal.parameters()}
        return replace(self, causal=copy.deepcopy(self.causal, shared))

    def fingerprint(self) -> str:
        """SHA-256 over every parameter's name, shape and a strided sample of its values.

        A sample of each tensor tells checkpoints of one architecture apart without reading gigabytes.
        The stride shares no factor with the rows' length, so that the sample visits all columns.
        """
        digest = hashlib.sha256()
        for name, value in self.causal.state_dict().items():
            flat, stride = value.detach().reshape(-1), max(1, value.numel() // FINGERPRINT_SAMPLES)
            while value.dim() and math.gcd(stride, value.shape[-1]) > 1:
                stride += 1
            sample = flat[::stride].float().cpu().contiguous()
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(sample.numpy().tobytes())
        return digest.hexdigest()


def versions() -> dict[str, str]:
    return {}


def load_model(name: str, device: str | None = None) -> LanguageModel:
    """Load a causal language model from a folder or a hub id in float32, frozen and ready to give gradients.

    device: a torch device name; None picks CUDA, then MPS, then CPU.
    Raises InputError when the folder is missing, has no weights or lacks some, or is no causal model.
    """
    if not os.path.isdir(name) and not HUB_ID.fullmatch(name):
        raise InputError(f"model folder '{name}' does not exist; give a Hugging Face model folder or hub id")
    where = pick_device(device)
    causal = _load_weights(name).eval().requires_grad_(False).to(where)
    _align(causal)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # the tokenizers package raises bare Exceptions, too
        raise InputError(
            f"model '{name}' has no tokenizer that can be loaded ({first_line(error)}); "
            "its folder needs a complete tokenizer.json"
        ) from error
    positions = getattr(causal.config, "max_position_embeddings", None)
    model = LanguageModel(causal, TextEncoder(tokenizer), where, positions)
    model.multiply_in("float32")
    return model


def pick_device(device: str | None) -> torch.device:
    """The named device, or the best one there is; InputError when the named one is not there."""
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device '{device}' cannot be used here: {first_line(error)}") from error
    return torch.device(device)


def _load_weights(name: str) -> Any:
    """The model on the CPU; a missing or partial set of weights is an error, never random weights."""
    try:
        with quiet():
            AutoConfig.from_pretrained(name)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                name, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"model '{name}' cannot be loaded: {first_line(error)}") from error
    causal, report = loaded
    if mismatched := sorted(report["mismatched_keys"]):
        parameter, found, expected = mismatched[0]
        raise InputError(
            f"model '{name}': {parameter} has shape {list(found)} but config.json asks for {list(expected)}; "
            "give a folder whose config.json and weights belong together"
        )
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"model '{name}' lacks weights for {len(missing)} parameters, first {missing[0]}; "
            "give a folder with a complete model.safetensors"
        )
    return causal


def _align(causal: nn.Module) -> None:
    """Copy parameters that begin within a cache line, as they may lie in the file that is mapped.

    Loads that cross two lines make some products half as slow again.
    """
    for parameter in causal.parameters():
        if parameter.data_ptr() % CACHE_LINE:
            parameter.data = parameter.data.clone()


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
