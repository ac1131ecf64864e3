"""Where a model lies: on one device, or its layers spread over several of one host.

The first device has all but the layers: embeddings, what is computed once for all layers, the last norm and
the head.  So token ids go in and hidden states come out there, and only the layers know of other devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from proponent.errors import InputError, first_line
from proponent.gradients.linear import layer_stack

SPREAD = "auto"  # over all cards, as a transformers' device_map of this name
OTHER_MAPS = ("balanced", "balanced_low_0", "sequential")  # of transformers


def pick_devices(device: str | None) -> tuple[torch.device, ...]:
    """The devices of a model: those named, with commas between, all cards for ``auto``, or else the best one.

    Raises InputError for one that is not there, or is named twice.
    """
    if device is None or (device == SPREAD and not torch.cuda.is_available()):
        if torch.cuda.is_available():
            return (torch.device("cuda"),)
        return (torch.device("mps" if torch.backends.mps.is_available() else "cpu"),)
    if device == SPREAD:
        return tuple(torch.device("cuda", n) for n in range(torch.cuda.device_count()))
    names = [name.strip() for name in device.split(",")]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"device '{device}' names {twice[0]} twice; name each device once")
    return tuple(map(_device, names))


def pick_device(device: str | None) -> torch.device:
    """The device of what is not spread; InputError as of ``pick_devices``, and where several are named."""
    first, *others = pick_devices(device)
    if others and device != SPREAD:
        raise InputError(f"device '{device}' names several; give one, since this model is not spread")
    return first


def _device(name: str) -> torch.device:
    if name == "disk":
        raise InputError(
            "device 'disk': weights are not read from disk while the model runs, since every batch would "
            "wait for them forward and back; give 'auto', more devices, or a smaller model"
        )
    if name in OTHER_MAPS:
        raise InputError(f"device '{name}' is not known; give 'auto', or devices with commas between")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device '{name}' cannot be used here: {first_line(error)}") from error
    return torch.device(name)


def place(causal: nn.Module, devices: Sequence[torch.device]) -> None:
    """Move a model to devices; where there are several its layers lie on all, in their order.

    Raises InputError for several devices and a model without a stack of layers.
    """
    if len(devices) == 1:
        causal.to(devices[0])
        return
    if (path := layer_stack(causal)) is None:
        raise InputError(f"{type(causal).__name__} has no list of layers to spread; give one device")
    stack = causal.get_submodule(path)
    layers = list(stack.children())
    rest = _bytes(causal) - sum(map(_bytes, layers))
    homes = shares([_bytes(layer) for layer in layers], rest, [_capacity(device) for device in devices])
    kept, stack._modules = stack._modules, {}
    causal.to(devices[0])
    stack._modules = kept
    for layer, home in zip(layers, homes, strict=True):
        layer.to(devices[home])
        layer.register_forward_pre_hook(partial(_arrive, devices[home]), with_kwargs=True)
    layers[-1].register_forward_hook(partial(_return, devices[0]))


def shares(layers: Sequence[int], rest: int, capacities: Sequence[int]) -> list[int]:
    """For each layer the number of its device, ascending.

    layers: bytes of each.  rest: bytes beside them, on the first device.  capacities: bytes that each device
    can hold: all are filled to the same degree, as far as whole layers and the rest allow.
    """
    scale = (rest + sum(layers)) / sum(capacities)
    if rest >= scale * capacities[0] and len(capacities) > 1:
        return [1 + home for home in shares(layers, 0, capacities[1:])]
    ends = list(accumulate(capacity * scale for capacity in capacities))
    begins = accumulate(layers, initial=rest)
    middles = (begin + size / 2 for begin, size in zip(begins, layers, strict=False))
    return [sum(end <= middle for end in ends[:-1]) for middle in middles]


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the processor on a device; the processor does not wait for a card to have it."""
    return pinned(tensor, device).to(device, non_blocking=True)


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the processor where a device, if it is a card, can fetch it by itself."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def refuse_spread(device: str | None, whose: str) -> None:
    """Raise InputError where a device means several, and there is one for each of several workers."""
    if len(pick_devices(device)) > 1:
        raise InputError(f"device '{device}' spreads the model over several, and {whose} has one; name one")


def _capacity(device: torch.device) -> int:
    """Bytes that count for a device's share: all of a card's, so that a split can be repeated."""
    if device.type == "cuda" and torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(device).total_memory)
    return 1


def _bytes(module: nn.Module) -> int:
    return sum(value.nbytes for value in {*module.parameters(), *module.buffers()})


def _arrive(device: torch.device, _: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """A layer's arguments on its device; a gradient goes back the same way."""
    return _moved(args, device), _moved(kwargs, device)


def _return(device: torch.device, _: nn.Module, __: Any, output: Any) -> Any:
    return _moved(output, device)


def _moved(value: Any, device: torch.device) -> Any:
    """A value with every tensor in it on a device; what is there already stays the same object."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=device.type != "cpu")  # the processor would read too early
    if isinstance(value, dict):
        return {key: _moved(part, device) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_moved(part, device) for part in value)
    return value
