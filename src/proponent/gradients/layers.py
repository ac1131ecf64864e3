"""Finding a model's attention and MLP matrices, and cutting them into layer blocks."""

from __future__ import annotations

import math
import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from proponent.errors import InputError
from proponent.gradients.linear import LINEAR, layer_stack
from proponent.gradients.model import CausalModel

# Token ids that show what layers read; position by position, 0 0 1 0 0 1 does not begin as the first row.
PROBE = ([0, 1, 0], [0, 0, 1])


@dataclass(frozen=True)
class Matrix:
    """One weight matrix as the method counts it: linear modules that read the same input.

    Query, key and value (and gate and up) count as one matrix with their outputs end to end.
    modules: their paths.  kind: ``attention`` or ``mlp``.  depth: of the layer.  inputs: i.  outputs: each o.
    """

    modules: tuple[str, ...]
    kind: str
    depth: int
    inputs: int
    outputs: tuple[int, ...]

    @property
    def name(self) -> str:
        """Path of the first module; unique in the model."""
        return self.modules[0]


@dataclass(frozen=True)
class LayerBlock:
    """The attention or the MLP matrices of consecutive layers: one diagonal block of the Hessian."""

    name: str
    matrices: tuple[Matrix, ...]


@dataclass(frozen=True)
class LayerPlan:
    """The blocks of a model and the side p that they are projected to; features are [b, p, p], flattened."""

    blocks: tuple[LayerBlock, ...]
    side: int

    @property
    def block_width(self) -> int:
        """Coordinates of one block, p * p."""
        return self.side**2

    @property
    def dim(self) -> int:
        """Coordinates of a feature, b * p * p."""
        return len(self.blocks) * self.block_width

    def rounding(self, dim: int) -> str:
        """One line on what ``dim`` became where the blocks do not fill it exactly, else ''."""
        if dim == self.dim:
            return ""
        count, side = len(self.blocks), self.side
        made = f"dim {dim:,} gives {count} blocks of {side} x {side}: {self.dim:,} coordinates"
        return f"{made}; a dim of {self.dim:,} or {count * (side + 1) ** 2:,} is filled exactly"

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """All matrices, block by block."""
        return tuple(matrix for block in self.blocks for matrix in block.matrices)


def plan_layers(model: CausalModel, dim: int, layer_groups: int) -> LayerPlan:
    """Cut a model's matrices into blocks; InputError where ``dim`` is less than a coordinate a block."""
    blocks = cut_blocks(find_matrices(model), layer_groups)
    side = int((dim / len(blocks)) ** 0.5 + 1e-9)
    if side < 1:
        raise InputError(f"dim {dim} is smaller than the number of blocks, {len(blocks)}; raise --dim")
    return LayerPlan(blocks, side)


def cut_blocks(matrices: tuple[Matrix, ...], layer_groups: int) -> tuple[LayerBlock, ...]:
    """Cut layers into ``layer_groups`` consecutive groups, attention and MLP apart (DESIGN 1.2).

    Groups differ by at most one layer; a model with fewer layers than groups gets a group a layer.
    """
    depths = sorted({matrix.depth for matrix in matrices})
    groups = min(layer_groups, len(depths))
    blocks = []
    for group in range(groups):
        inside = depths[group * len(depths) // groups : (group + 1) * len(depths) // groups]
        for kind in ("attention", "mlp"):
            members = tuple(m for m in matrices if m.kind == kind and m.depth in inside)
            if members:
                blocks.append(LayerBlock(f"{kind} {inside[0]}-{inside[-1]}", members))
    return tuple(blocks)


def find_matrices(model: CausalModel) -> tuple[Matrix, ...]:
    """All attention and MLP matrices of a model, found by watching forward passes of a few tokens.

    Linear modules (nn.Linear or GPT-2's Conv1D) in the model's stack of layers count as attention where
    their path says so, else as MLP.  Modules of one layer and kind that read the same tensor form one Matrix.
    Raises InputError where there is no stack, no linear module in it is called, or the gradient of one
    row's loss is not ``dᵀ x`` of one call of one module; it names the module or parameter and what was seen.
    """
    causal = model.causal
    stack = layer_stack(causal)
    if stack is None:
        raise InputError(
            f"no layers were found in {type(causal).__name__}: expected a list of layers made of nn.Linear "
            "or Conv1D; this architecture is not supported"
        )
    _refuse_other_tensors(causal, stack)
    modules = causal.get_submodule(stack).named_modules(prefix=stack)
    inputs = _watch(model, {path: part for path, part in modules if isinstance(part, LINEAR)})
    if not inputs:
        seen = f"no linear layers were called with autograd on in '{stack}'"
        raise InputError(f"{seen}; this architecture is not supported")
    _refuse_shared_weights(causal, set(inputs))
    groups: dict[tuple[int, str, int], list[str]] = {}
    for path, x in inputs.items():
        depth, _, rest = path[len(stack) + 1 :].partition(".")
        kind = "attention" if re.search("attn|attention", rest.lower()) else "mlp"
        groups.setdefault((int(depth), kind, id(x)), []).append(path)
    return tuple(
        Matrix(
            tuple(paths), kind, depth, inputs[paths[0]].shape[-1], tuple(_outputs(causal, p) for p in paths)
        )
        for (depth, kind, _), paths in groups.items()
    )


def _outputs(causal: nn.Module, path: str) -> int:
    module: Any = causal.get_submodule(path)
    return int(module.weight.shape[1 if isinstance(module, Conv1D) else 0])


def _refuse_other_tensors(causal: nn.Module, stack: str) -> None:
    """InputError for weights of three or more dimensions, as mixtures of experts have: none is a matrix."""
    for name, weight in causal.get_submodule(stack).named_parameters(stack):
        owner = causal.get_submodule(name.rpartition(".")[0])
        if weight.squeeze().dim() >= 3 and not isinstance(owner, nn.Conv1d):
            raise InputError(
                f"'{name}' has shape {list(weight.shape)}; only layers whose weights are the matrices of "
                "nn.Linear or Conv1D modules are supported"
            )


def _refuse_shared_weights(causal: nn.Module, called: set[str]) -> None:
    """InputError where another module owns the weight of one that is called: its uses would count apart."""
    owners: dict[nn.Parameter, str] = {}
    for path, module in causal.named_modules():
        for weight in module.parameters(recurse=False):
            first = owners.setdefault(weight, path)
            if first != path and weight.dim() > 1 and called & {first, path}:
                found = f"'{first}.weight' is the weight of '{path}' too"
                raise InputError(f"{found}; models whose layers share a weight are not supported")


def _watch(model: CausalModel, linear: dict[str, nn.Module]) -> dict[str, Tensor]:
    """The input of every linear module that gradients pass, in order of the calls, for a few rows [n, t].

    Raises InputError where a module is called more than once, or its input is neither [n, t, i] nor the
    same values in another shape, such as [n * t, i]: then the first row's part is what that row gives alone.
    """
    tokens = torch.tensor(PROBE, device=model.device)
    calls = _calls(model, linear, tokens)
    counts, inputs = Counter(path for path, _ in calls), {path: x for path, x in calls if x is not None}
    for path in inputs:
        if counts[path] > 1:
            found = f"'{path}' is called {counts[path]} times in one pass"
            raise InputError(f"{found}; such models are not supported")
    unusual = [path for path, x in inputs.items() if x.shape[:-1] != tokens.shape]
    alone = dict(_calls(model, linear, tokens[:1])) if unusual else {}
    for path in unusual:
        expected = [*tokens.shape, inputs[path].shape[-1]]
        if inputs[path].numel() != math.prod(expected) or not _begins(inputs[path], alone.get(path)):
            raise InputError(
                f"'{path}' was given an input of shape {list(inputs[path].shape)} for {len(tokens)} rows of "
                f"{tokens.shape[1]} tokens; expected {expected}, or the same values in this order; "
                "such models are not supported"
            )
    return inputs


def _calls(
    model: CausalModel, linear: dict[str, nn.Module], tokens: Tensor
) -> list[tuple[str, Tensor | None]]:
    """(path, input) of every call in a forward pass of tokens [n, t]; no input where autograd is off."""
    calls: list[tuple[str, Tensor | None]] = []

    def note(path: str, x: Tensor) -> None:
        calls.append((path, x if torch.is_grad_enabled() else None))

    with ExitStack() as hooks, torch.enable_grad():  # no parameter requires grad, so no graph is made
        for path, module in linear.items():
            handle = module.register_forward_pre_hook(lambda _, args, path=path: note(path, args[0]))
            hooks.callback(handle.remove)
        model.hidden(tokens)
    return calls


def _begins(x: Tensor, alone: Tensor | None) -> bool:
    """Whether a batch's input begins with the first row's, to a tenth of the largest value for rounding."""
    if alone is None or alone.numel() > x.numel():
        return False
    first, tolerance = x.flatten()[: alone.numel()], 0.1 * float(alone.abs().max())
    return torch.allclose(first, alone.flatten(), rtol=0, atol=tolerance, equal_nan=True)
