"""A frozen causal language model with its tokenizer, and loading one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from proponent.corpus.encoding import TextEncoder
from proponent.errors import InputError
from proponent.gradients.identity import fingerprint
from proponent.gradients.linear import multiply_fast, product_dtype
from proponent.gradients.loading import load_tokenizer, load_weights, require_model
from proponent.gradients.placement import pick_devices, place
from proponent.gradients.probing import probe

LIMITS = ("max_position_embeddings", "max_seq_len", "max_target_positions")  # names of one setting


@dataclass
class _Answer(BaseModelOutputWithPastAndCrossAttentions):
    """A decoder's output; anything else that a head may pass on, such as a recurrent state, is None."""

    def __getattr__(self, _: str) -> None:
        return None


class _Replay(nn.Module):
    """A decoder that answers any call with given hidden states; its settings are the original's."""

    def __init__(self, decoder: nn.Module, hidden: Tensor) -> None:
        super().__init__()
        self.__dict__.update(original=decoder, hidden=hidden)  # not registered as parts of this module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__dict__["original"], name)
        return self if name == "decoder" else found

    def forward(self, *_: Any, **__: Any) -> _Answer:
        return _Answer(last_hidden_state=self.hidden)


@dataclass(frozen=True)
class CausalModel:
    """A frozen causal language model: token ids to hidden states, and these to logits.

    causal: the whole Hugging Face model in eval mode.  device: of the token ids, hidden states and logits;
    layers may lie on others, see ``place``.
    """

    causal: Any
    device: torch.device

    def device_of(self, path: str) -> torch.device:
        """Where the weight of a linear module is, by its path, and so what it is given and gives."""
        weight: Tensor = self.causal.get_submodule(path).weight
        return weight.device

    @property
    def vocabulary(self) -> int:
        """Number of logits a position."""
        return int(self.causal.get_output_embeddings().weight.shape[0])

    def hidden(self, tokens: Tensor) -> Tensor:
        """Last hidden states [n, t, h] of token ids [n, t], without computing any logits.

        No attention mask is needed: rows are padded on the right and attention is causal.
        """
        output: Tensor = self.causal.base_model(input_ids=tokens, use_cache=False)[0]
        return output

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [m, v] in float32 of hidden states [m, h].

        By the model's own forward, decoder replaced, for any architecture's soft-capping, scaling and biases.
        """
        head = copy.copy(self.causal)  # shares every parameter; only the decoder is swapped
        replay = _Replay(self.causal.base_model, hidden[None])
        head._modules = {**self.causal._modules, self.causal.base_model_prefix: replay}
        output: Tensor = head(inputs_embeds=hidden[None], use_cache=False).logits.squeeze(0)
        return output.float()


@dataclass(frozen=True)
class LanguageModel(CausalModel):
    """A causal model with the tokenizer that goes with it.

    max_positions: longest input, None if unknown.
    position_break: length above which all of a row's positions get other factors (LongRoPE), so that
        rows on its two sides must not share a batch; None where no length changes them.
    identity: checksum of the weights as loaded and of the settings that the logits depend on.
    """

    encoder: TextEncoder
    max_positions: int | None
    position_break: int | None = None
    identity: str = ""

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


def load_model(name: str, device: str | None = None, trust_remote_code: bool = False) -> LanguageModel:
    """Load a causal language model from a folder or a hub id, frozen and ready to give gradients.

    In float32; a large one whose linear layers are stored in 16 bits keeps these so, see ``holding``.
    device: a torch device name; several with commas between, or ``auto`` for all cards, whose memory its
        layers share; None picks CUDA, then MPS, then CPU.
    trust_remote_code: run Python code that comes with the model; without it, such a model is refused.
    Raises InputError when it does not fit, when the folder is missing, lacks weights or holds others than the
    model uses, or when the model is not causal or its head reads more than the last hidden state.
    """
    require_model(name)
    devices = pick_devices(device)
    causal, settings = load_weights(name, trust_remote_code, devices)
    known = _known_tokens(name, causal)
    encoder = TextEncoder(load_tokenizer(name, trust_remote_code), known)
    identity = fingerprint(causal, settings)
    place(causal, devices)
    model = LanguageModel(causal, devices[0], encoder, None, identity=identity)
    model.multiply_in("float32")
    text = causal.config.get_text_config(decoder=True)  # of the text model where there are several
    # "dynamic" positions, which follow the longest row seen so far, never change up to the stated limit
    limits = [probe(name, model, known), next(filter(None, (getattr(text, n, None) for n in LIMITS)), None)]
    longest = min((limit for limit in limits if limit is not None), default=None)
    position_break = min(_breaks(getattr(text, "rope_parameters", None)), default=None)
    return replace(model, max_positions=longest, position_break=position_break)


def _known_tokens(name: str, causal: Any) -> int:
    """Number of token ids that can be read and predicted; a tokenizer may have more."""
    tables = (causal.get_input_embeddings(), causal.get_output_embeddings())
    if not all(isinstance(getattr(table, "weight", None), Tensor) for table in tables):
        raise InputError(f"model '{name}' has no embedding and unembedding of tokens; it is not supported")
    return min(int(table.weight.shape[0]) for table in tables)


def _breaks(rope: Any) -> Iterator[int]:
    """Lengths above which LongRoPE takes its long factors; kinds of layers may have their own."""
    if isinstance(rope, Mapping):
        if rope.get("rope_type") == "longrope":
            yield int(rope["original_max_position_embeddings"])
        for part in rope.values():
            yield from _breaks(part)
