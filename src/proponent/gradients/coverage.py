"""Which weights of a model's layers receive a gradient that no Matrix holds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from torch import nn

from proponent.gradients.backprop import Batch, backpropagate
from proponent.gradients.layers import Matrix
from proponent.gradients.linear import layer_stack
from proponent.gradients.model import LanguageModel


def uncovered(model: LanguageModel, matrices: Sequence[Matrix], row: Sequence[int]) -> dict[str, float]:
    """Weights that the features leave out, with their share of the gradient, largest first.

    row: token ids, two or more, whose summed loss is differentiated.  Counted are the decoder's weights of
    two or more dimensions, embeddings outside the layers excepted; norms and biases the method leaves out.
    A share is ‖g‖² of the weight over the sum of ‖g‖² of all that are counted, > 0 and <= 1; weights
    without a gradient are not named.  One weight gradient exists at a time.
    """
    counted = _counted(model.causal)
    covered = {model.causal.get_submodule(path).weight for m in matrices for path in m.modules}
    squares: dict[nn.Parameter, float] = {}

    def take(weight: nn.Parameter) -> None:
        if weight.grad is not None:
            squares[weight] = float(weight.grad.float().norm()) ** 2
            weight.grad = None

    with ExitStack() as after:
        for weight in counted:
            after.callback(weight.requires_grad_, weight.requires_grad)
            weight.requires_grad_(True)
            after.callback(weight.register_post_accumulate_grad_hook(take).remove)
        backpropagate(model, Batch.of([row], [1]))
    total = sum(squares.values())
    missed = {counted[weight]: square / total for weight, square in squares.items() if weight not in covered}
    return {name: missed[name] for name in sorted(missed, key=lambda name: -missed[name]) if missed[name]}


def _counted(causal: nn.Module) -> dict[nn.Parameter, str]:
    """Names of the decoder's weights of two or more dimensions, but for embeddings outside the layers."""
    inside = set(causal.get_submodule(layer_stack(causal) or "").modules())
    tables = (part for part in causal.modules() if isinstance(part, nn.Embedding) and part not in inside)
    decoder = set(causal.base_model.parameters())  # type: ignore[union-attr]
    decoder -= {weight for table in tables for weight in table.parameters()}
    return {w: name for name, w in causal.named_parameters() if w.dim() > 1 and w in decoder}
