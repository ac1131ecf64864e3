"""Handing layer inputs and loss gradients at layer outputs to whoever needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor

from proponent.gradients.layers import Matrix
from proponent.gradients.model import LanguageModel


class Sink(Protocol):
    """What receives the two factors of every weight gradient, ``dᵀ x``."""

    def forward(self, matrix: Matrix, x: Tensor) -> None:
        """x: the input [n, t, i] of a matrix, once a forward pass."""

    def backward(self, matrix: Matrix, slot: int, d: Tensor) -> None:
        """d: the gradient [n, t, o] at the output of the matrix's module number ``slot``."""


@contextmanager
def capture(model: LanguageModel, matrices: Sequence[Matrix], sinks: Sequence[Sink]) -> Iterator[None]:
    """While open, every forward and backward of the model feeds all ``sinks``.

    The parameters are frozen, so autograd computes gradients of activations only and keeps no layer
    input; the graph starts at the outputs of the first matrices, below which nothing is differentiated.
    """
    count = [1]  # rows of the batch: some layers read theirs flattened, [n * t, i]

    def count_rows(_: Any, __: Any, inputs: dict[str, Tensor]) -> None:
        count[0] = len(inputs["input_ids"])

    handles = [model.causal.base_model.register_forward_pre_hook(count_rows, with_kwargs=True)]
    for matrix in matrices:
        for slot, path in enumerate(matrix.modules):
            hook = _forward_hook(matrix, slot, sinks, count)
            handles.append(model.causal.get_submodule(path).register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _forward_hook(matrix: Matrix, slot: int, sinks: Sequence[Sink], count: list[int]) -> Any:
    def by_rows(values: Tensor) -> Tensor:
        return values.detach().reshape(count[0], -1, values.shape[-1])

    def backward(d: Tensor) -> None:
        for sink in sinks:
            sink.backward(matrix, slot, by_rows(d))

    def hook(_: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # An output that needs no grad is a first layer's: the graph begins here. The clone makes it
        # an inner node, so that models may go on to change it in place.
        traced = output if output.requires_grad else output.requires_grad_().clone()
        for sink in sinks if slot == 0 else ():
            sink.forward(matrix, by_rows(args[0]))
        traced.register_hook(backward)
        return traced

    return hook
