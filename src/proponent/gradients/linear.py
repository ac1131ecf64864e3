"""The linear modules of a frozen model: products by the faster library, in float32 or in bfloat16."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from proponent.products import product

LINEAR = (nn.Linear, Conv1D)
# Share of the layers, the first ones, that stay in float32: what they round, all that follow see.
EARLY = 1 / 6


class _Product(torch.autograd.Function):
    """``x Wᵀ + b`` with a gradient for x alone: the weights are frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """x: [..., i].  weight: [o, i], kept as it is, and bias: [o], both taken to dtype for the product."""
        ctx.weight, ctx.dtype = weight, dtype
        return product(x, weight.to(dtype), None if bias is None else bias.to(dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """``d W`` [..., i] for the gradient d [..., o] with respect to the output."""
        return product(gradients[0], ctx.weight.to(ctx.dtype).T), None, None, None


class _Linear(nn.Linear):
    multiplies_in = torch.float32

    def forward(self, input: Tensor) -> Tensor:
        return _multiply(input, self.weight, self.bias, self.multiplies_in)


class _Conv1D(Conv1D):
    multiplies_in = torch.float32

    def forward(self, x: Tensor) -> Tensor:
        return _multiply(x, self.weight.T, self.bias, self.multiplies_in)


FAST = {nn.Linear: _Linear, Conv1D: _Conv1D}


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The product in dtype, in the precision of x again."""
    if weight.requires_grad:  # somebody trains after all
        added = None if bias is None else bias.to(dtype)
        return nn.functional.linear(x.to(dtype), weight.to(dtype), added).to(x.dtype)
    made: Tensor = _Product.apply(x, weight, bias, dtype)  # type: ignore[no-untyped-call]
    return made


def multiply_fast(causal: nn.Module, dtype: torch.dtype) -> None:
    """Let the linear modules of a float32 model compute ``x Wᵀ`` in dtype, by the faster library.

    Weights of more bits are converted, but not those of the first layers (``EARLY``, rounded up), which
    multiply in float32.  Weights of fewer bits are held as they are, and converted for each product.  All
    else, and what passes between modules, stays in float32: rounding it loses more and gains less time.
    Subclasses of nn.Linear and Conv1D may compute something else and stay as they are.  Rounding is not
    undone.
    """
    converted: dict[nn.Parameter, nn.Parameter] = {}
    early = (module for module in _early(causal) if isinstance(module, LINEAR))
    kept = {value for module in early for value in module.parameters(recurse=False)}
    for module in causal.modules():
        module.__class__ = FAST.get(type(module), type(module))
        own = list(module.named_parameters(recurse=False))
        if not isinstance(module, _Linear | _Conv1D) or any(value in kept for _, value in own):
            continue
        module.multiplies_in = dtype
        for name, value in own:
            if value.dtype.itemsize > dtype.itemsize and value not in converted:
                converted[value] = nn.Parameter(value.detach().to(dtype), requires_grad=False)
            setattr(module, name, converted.get(value, value))


def product_dtype(causal: nn.Module) -> torch.dtype:
    """The precision that linear modules multiply in, the first layers apart."""
    early = _early(causal)
    for module in causal.modules():
        if isinstance(module, _Linear | _Conv1D) and module not in early:
            return module.multiplies_in
    return torch.float32


def layer_stack(causal: nn.Module) -> str | None:
    """Path of the list of layers: that with most linear modules in it; None where none has any."""
    lists = {path: part for path, part in causal.named_modules() if isinstance(part, nn.ModuleList)}
    counts = {path: sum(isinstance(m, LINEAR) for m in part.modules()) for path, part in lists.items()}
    best = max(counts, key=lambda path: counts[path], default=None)
    return best if best is not None and counts[best] else None


def _early(causal: nn.Module) -> set[nn.Module]:
    """All modules of the first layers; none in a model without a stack of layers."""
    stack = layer_stack(causal)
    layers = [] if stack is None else list(causal.get_submodule(stack).children())
    return {module for layer in layers[: math.ceil(EARLY * len(layers))] for module in layer.modules()}
