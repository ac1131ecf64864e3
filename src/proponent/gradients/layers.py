"""Finding a model's attention and MLP matrices, and cutting them into layer blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from proponent.errors import InputError
from proponent.gradients.model import LanguageModel
from proponent.gradients.stack import LINEAR, layer_stack

ATTENTION_WORDS = ("attn", "attention")
KINDS = ("attention", "mlp")


@dataclass(frozen=True)
class Matrix:
    """One weight matrix as the method counts it: linear modules that read the same input.

    Query, key and value (and gate and up) count as one matrix with their outputs end to end.
    modules: their paths in the model.  kind: ``attention`` or ``mlp``.  depth: index of the layer.
    inputs: i.  outputs: o of each module.
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
    """The blocks of a model and the side p that they are projected to.

    Features of a passage are [b, p, p] flattened to dim = b * p * p coordinates.
    """

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

    def shortfall(self, dim: int) -> str:
        return ""

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """All matrices, block by block."""
        return tuple(matrix for block in self.blocks for matrix in block.matrices)


def plan_layers(model: LanguageModel, dim: int, layer_groups: int) -> LayerPlan:
    """Find the matrices of a model and cut them into blocks with a projected side for ``dim``.

    Raises InputError where no layers are found or ``dim`` gives the blocks less than one coordinate.
    """
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
        for kind in KINDS:
            members = tuple(m for m in matrices if m.kind == kind and m.depth in inside)
            if members:
                blocks.append(LayerBlock(f"{kind} {inside[0]}-{inside[-1]}", members))
    return tuple(blocks)


def find_matrices(model: LanguageModel) -> tuple[Matrix, ...]:
    """All attention and MLP matrices of a model, found by watching one forward pass of two tokens.

    Linear modules (nn.Linear or GPT-2's Conv1D) inside the model's stack of layers count as attention
    where their path says so and as MLP otherwise; embeddings and the unembedding lie outside the stack.
    Modules of one layer and kind that were handed the same tensor form one Matrix.
    Raises InputError where there is no stack, no linear module in it, or a module that does not see
    its tokens in order (a mixture of experts), for which the gradient of one passage is undefined here.
    """
    stack, linear = _linear_modules(model.causal)
    _refuse_experts(model.causal, stack)
    groups: dict[tuple[int, str, int], list[tuple[str, Any]]] = {}
    for path, given in _watch(model, linear):
        inside = path[len(stack) + 1 :]
        depth, _, rest = inside.partition(".")
        kind = "attention" if any(word in rest.lower() for word in ATTENTION_WORDS) else "mlp"
        groups.setdefault((int(depth), kind, id(given)), []).append((path, linear[path]))
    if not groups:
        raise InputError(f"no linear layers were called in '{stack}'; this architecture is not supported")
    return tuple(
        Matrix(tuple(path for path, _ in members), kind, depth, *_sizes([module for _, module in members]))
        for (depth, kind, _), members in groups.items()
    )


def _linear_modules(causal: nn.Module) -> tuple[str, dict[str, Any]]:
    """Path of the stack of layers, and its linear modules."""
    stack = layer_stack(causal)
    if stack is None:
        raise InputError(
            f"no layers were found in {type(causal).__name__}: expected a list of layers made of nn.Linear "
            "or Conv1D; this architecture is not supported"
        )
    modules = causal.get_submodule(stack).named_modules(prefix=stack)
    return stack, {path: part for path, part in modules if isinstance(part, LINEAR)}


def _refuse_experts(causal: nn.Module, stack: str) -> None:
    """InputError where the stack keeps weights of several matrices in one tensor, as mixtures of experts do.

    Such weights are no linear modules: without this check they would be passed over in silence.
    """
    for name, weight in causal.get_submodule(stack).named_parameters(stack):
        owner = causal.get_submodule(name.rpartition(".")[0])
        if weight.dim() >= 3 and not isinstance(owner, nn.Conv1d):
            raise InputError(
                f"'{name}' holds the weights of {len(weight)} experts; mixtures of experts are not supported"
            )


def _watch(model: LanguageModel, linear: dict[str, Any]) -> list[tuple[str, Tensor]]:
    """(path, input tensor) of every call of a linear module, in order, in a forward of 1 x 2 tokens."""
    calls: list[tuple[str, Tensor]] = []
    handles = [
        module.register_forward_pre_hook(lambda _, args, path=path: calls.append((path, args[0])))
        for path, module in linear.items()
    ]
    try:
        with torch.no_grad():
            model.hidden(torch.zeros(1, 2, dtype=torch.long, device=model.device))
    finally:
        for handle in handles:
            handle.remove()
    for path, given in calls:
        if given.shape[:2] != (1, 2) or given.dim() != 3:
            raise InputError(
                f"layer '{path}' does not see a row of tokens [n, t, i] (a mixture of experts?); "
                "such models are not supported"
            )
    if len(dict(calls)) < len(calls):
        raise InputError("some layers of this model run more than once a pass; such models are not supported")
    return calls


def _sizes(modules: list[Any]) -> Iterator[Any]:
    """Inputs i, then the tuple of outputs o, of modules that read the same input."""
    shapes = [m.weight.shape if isinstance(m, Conv1D) else m.weight.shape[::-1] for m in modules]
    yield int(shapes[0][0])
    yield tuple(int(shape[1]) for shape in shapes)
