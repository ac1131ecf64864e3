"""The one way to take token rows through a model, forward and backward: each batch is handed to sinks.

What is wanted of the gradients (features, second moments, tail-patch updates) is a sink.  A sink sees the two
factors of every weight gradient ``dᵀ x``, never the gradient itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from proponent.gradients.backprop import Batch, backpropagate
from proponent.gradients.lanes import batch_schedules, run_lanes
from proponent.gradients.layers import Matrix
from proponent.gradients.model import CausalModel, LanguageModel


class Capture(Protocol):
    """What a sink keeps of one batch, which may run beside other batches."""

    def forward(self, matrix: Matrix, x: Tensor) -> None:
        """x: the input [n, t, i] of a matrix, once a forward pass."""

    def backward(self, matrix: Matrix, slot: int, d: Tensor) -> None:
        """d: the gradient [n, t, o] with respect to the output of the matrix's module number ``slot``."""


class Sink(Protocol):
    """Takes the batches of a sweep, one at a time and always in the same order."""

    def open(self, rows: int) -> Capture:
        """A capture for a batch of so many rows."""

    def take(self, members: Sequence[int], captured: Any) -> None:
        """Take a finished batch: the numbers of its rows, and the capture that ``open`` gave for it."""


@dataclass(frozen=True)
class Sweep:
    """Passes of token rows through a model, whose sinks see the gradients of ``matrices``.

    batch_tokens: tokens that are computed at once, padding included, over all lanes.
    """

    model: LanguageModel
    matrices: tuple[Matrix, ...]
    batch_tokens: int

    def __call__(
        self,
        rows: Sequence[Sequence[int]],
        starts: Sequence[int],
        sinks: Sequence[Sink],
        output: str = "loss",
        done: Callable[[Sequence[int]], None] | None = None,
    ) -> None:
        """Take all rows through the model once.

        rows: token ids.  starts: index (>= 1) of the first token of each row that ``output`` scores.
        done: called with the numbers of the rows of each batch once the sinks have taken it.
        """

        def work(model: LanguageModel, members: list[int]) -> list[Capture]:
            captures = [sink.open(len(members)) for sink in sinks]
            batch = Batch.of([rows[n] for n in members], [starts[n] for n in members])
            with captured(model, self.matrices, captures, len(members)):
                backpropagate(model, batch, output)
            return captures

        for schedule in batch_schedules(self.model, [len(row) for row in rows], self.batch_tokens):
            with closing(run_lanes(self.model, schedule, work)) as finished:
                for members, captures in zip(schedule.batches, finished, strict=True):
                    for sink, capture in zip(sinks, captures, strict=True):
                        sink.take(members, capture)
                    if done is not None:
                        done(members)


@contextmanager
def captured(
    model: CausalModel, matrices: Sequence[Matrix], captures: Sequence[Capture], rows: int
) -> Iterator[None]:
    """While open, every forward and backward pass of the model over ``rows`` rows feeds all ``captures``.

    A layer may be given its rows flattened, [n · t, i]; captures always see [n, t, i].  A module whose output
    the loss does not depend on has a gradient of zeros: captures see one of every module.

    The parameters are frozen, so autograd computes gradients of activations only and keeps no layer
    input; the graph starts at the outputs of the first matrices, below which nothing is differentiated.
    """
    missing: dict[tuple[str, int], tuple[Matrix, Tensor]] = {}
    with ExitStack() as hooks:
        for matrix in matrices:
            for slot, path in enumerate(matrix.modules):
                hook = _forward_hook(matrix, slot, captures, rows, missing)
                hooks.callback(model.causal.get_submodule(path).register_forward_hook(hook).remove)
        yield
        for (_, slot), (matrix, zeros) in missing.items():
            for capture in captures:
                capture.backward(matrix, slot, zeros)


def _forward_hook(
    matrix: Matrix,
    slot: int,
    captures: Sequence[Capture],
    rows: int,
    missing: dict[tuple[str, int], tuple[Matrix, Tensor]],
) -> Any:
    """missing: zeros for each module that has run forward and not yet backward; they take no memory."""

    def by_row(values: Tensor) -> Tensor:
        return values.detach().reshape(rows, -1, values.shape[-1])

    def backward(d: Tensor) -> None:
        missing.pop((matrix.name, slot), None)
        for capture in captures:
            capture.backward(matrix, slot, by_row(d))

    def hook(_: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # An output that needs no grad is a first layer's: the graph begins here. The clone makes it
        # an inner node, so that models may go on to change it in place.
        traced = output if output.requires_grad else output.requires_grad_().clone()
        for capture in captures if slot == 0 else ():
            capture.forward(matrix, by_row(args[0]))
        shape = (rows, output.numel() // (rows * output.shape[-1]), output.shape[-1])
        missing[matrix.name, slot] = (matrix, output.new_zeros(()).detach().expand(shape))
        traced.register_hook(backward)
        return traced

    return hook
