"""In what precision weights are held, and whether they fit, before any is read.

Weights of linear layers that are stored in 16 bits may be held so: products convert them as they use them,
without loss, so that features are the same to the bit.  All other weights are held in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig

from proponent.errors import InputError
from proponent.gradients.linear import FAST, layer_stack
from proponent.memory import available

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")  # names of files with weights
FLOAT, HALF = 4, 2  # bytes of a number
CPU = (torch.device("cpu"),)
NARROW = (torch.bfloat16, torch.float16)
# Weights are held as they are stored where float32 would take more than this share of the free memory, and
# are refused above the other: a batch has to fit as well.
AMPLE, MOST = 0.5, 0.9


@dataclass(frozen=True)
class WeightSizes:
    """Parameters of a model, and how many of them are of linear layers and may be held as they are stored."""

    parameters: int
    linear: int

    @property
    def whole(self) -> int:
        """Bytes of all weights in float32."""
        return FLOAT * self.parameters

    @property
    def halved(self) -> int:
        """Bytes with those of linear layers in 16 bits."""
        return self.whole - (FLOAT - HALF) * self.linear

    def held(self, stored: torch.dtype, free: int) -> torch.dtype | None:
        """The precision of linear layers in so much free memory; None where no precision fits."""
        if self.whole > AMPLE * free and stored in NARROW:
            return stored if self.halved <= MOST * free else None
        return torch.float32 if self.whole <= MOST * free else None


def held_weights(causal: nn.Module) -> list[nn.Parameter]:
    """Weights and biases of the linear layers that the products convert as they use them."""
    stack = layer_stack(causal)
    modules = [] if stack is None else causal.get_submodule(stack).modules()
    return [value for m in modules if type(m) in FAST for value in m.parameters(recurse=False)]


def stored_dtype(config: PreTrainedConfig) -> torch.dtype:
    """The precision that a configuration says of the stored weights; float32 where it says none."""
    found = config.get_text_config(decoder=True).dtype or config.dtype
    found = getattr(torch, found, None) if isinstance(found, str) else found
    return found if isinstance(found, torch.dtype) else torch.float32


def choose_dtype(
    name: str, config: PreTrainedConfig, where: Sequence[torch.device], trust_remote_code: bool
) -> torch.dtype:
    """The precision in which the weights of a model's linear layers are to be held on devices.

    They pass the processor's memory on their way to other devices.  Raises InputError where they do not fit.
    """
    stored, rooms = stored_dtype(config), free_memory(where)
    scarce = min(rooms, key=lambda place: rooms[place], default="")
    if not rooms or 0 < _weight_bytes(name) * FLOAT <= AMPLE * rooms[scarce] * stored.itemsize:
        return torch.float32  # no need to count
    sizes, free = weight_sizes(config, trust_remote_code), rooms[scarce]
    if found := sizes.held(stored, free):
        return found
    needed = f"{sizes.whole / 1e9:,.1f} GB in float32"
    remedy = "take a device with more memory, several (--device auto), or a smaller model"
    if stored in NARROW:
        needed = f"{sizes.halved / 1e9:,.1f} GB with its linear layers in {_word(stored)}, as they are stored"
    elif sizes.halved <= MOST * free:
        remedy = f"save it in bfloat16, of which {sizes.halved / 1e9:,.1f} GB are held, or {remedy}"
    raise InputError(
        f"model '{name}' does not fit: its {sizes.parameters:,} parameters take {needed}, and {scarce} has "
        f"{free / 1e9:,.1f} GB free, of which {MOST:.0%} may be weights; {remedy}"
    )


def free_memory(where: Sequence[torch.device]) -> dict[str, int]:
    """Bytes free on devices together and, which weights pass, on the processor; without what is not known."""
    rooms = {", ".join(map(str, devices)): [available(d) for d in devices] for devices in (where, CPU)}
    known = {place: [room for room in each if room is not None] for place, each in rooms.items()}
    return {place: sum(each) for place, each in known.items() if len(each) == len(rooms[place])}


def weight_sizes(config: PreTrainedConfig, trust_remote_code: bool = False) -> WeightSizes:
    """Sizes of a configuration's weights; none is made."""
    with torch.device("meta"):
        causal: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    linear = sum(value.numel() for value in set(held_weights(causal)))
    return WeightSizes(sum(value.numel() for value in causal.parameters()), linear)


def _weight_bytes(name: str) -> int:
    """Bytes of the files with weights in a folder; 0 for a hub id."""
    return sum(file.stat().st_size for kind in WEIGHTS for file in Path(name).glob(kind))


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
