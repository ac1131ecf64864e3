"""One forward and one backward pass: padding, the logits that are computed, and what is never formed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.features import extractor
from tests.references.gradients import weight_gradients
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from proponent.gradients.backprop import Batch, backpropagate, slice_rows
from proponent.gradients.layers import Matrix, find_matrices, plan_layers
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import SecondMoments
from proponent.gradients.sweep import captured

Shared = Callable[[str], LanguageModel]


class Factors:
    """A capture that keeps both factors of every weight gradient."""

    def __init__(self) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[tuple[str, int], Tensor] = {}

    def forward(self, matrix: Matrix, x: Tensor) -> None:
        assert matrix.name not in self.inputs
        self.inputs[matrix.name] = x

    def backward(self, matrix: Matrix, slot: int, d: Tensor) -> None:
        assert (matrix.name, slot) not in self.outputs
        self.outputs[matrix.name, slot] = d


class Shapes(TorchDispatchMode):
    """Notes the shape of everything that torch computes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: dict[tuple[int, ...], str] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            # views of the weights have their shapes, of course
            if isinstance(value, Tensor) and not func.is_view:
                self.seen.setdefault(tuple(value.shape), str(func))
        return result


def test_rows_are_padded_on_the_right_with_their_last_token() -> None:
    batch = Batch.of([[5, 6, 7, 8], [9, 4], [3, 2, 1]], [1, 1, 2])
    assert batch.tokens.tolist() == [[5, 6, 7, 8], [9, 4, 4, 4], [3, 2, 1, 1]]
    assert batch.predicted.tolist() == [
        [False, True, True, True],
        [False, True, False, False],
        [False, False, True, False],
    ]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "phi"])
def test_captured_factors_multiply_to_the_gradient(family: str, shared_model: Shared) -> None:
    model = shared_model(family)
    matrices = find_matrices(model)
    row = [0, 5, 9, 200, 31, 7]
    sink, second = Factors(), Factors()
    with captured(model, matrices, [sink, second], 1):
        backpropagate(model, Batch.of([row], [1]))
    expected = weight_gradients(model, matrices, row, 1)
    for matrix in matrices:
        d = torch.cat([sink.outputs[matrix.name, slot] for slot in range(len(matrix.modules))], -1)[0]
        x = sink.inputs[matrix.name][0]
        assert len(x) == len(row) - 1, "the last token predicts nothing"
        scale = expected[matrix.name].abs().max()
        torch.testing.assert_close(d.T @ x / scale, expected[matrix.name] / scale, rtol=1e-4, atol=1e-5)
        assert torch.equal(second.inputs[matrix.name][0], x)
    assert sink.outputs.keys() == second.outputs.keys()


def test_capture_ends_with_its_block(shared_model: Shared) -> None:
    model = shared_model("llama")
    sink = Factors()
    with pytest.raises(KeyError), captured(model, find_matrices(model), [sink], 1):
        raise KeyError
    with torch.no_grad():
        model.hidden(torch.tensor([[0, 1, 2]]))
    assert not sink.inputs
    assert not any(module._forward_hooks for module in model.causal.modules())


def test_only_the_logits_that_are_needed(shared_model: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scored tokens: 3 + 1 + 1, in parts of 2 rows at most."""
    model = shared_model("llama")
    asked: list[int] = []
    logits = LanguageModel.logits

    def count(self: LanguageModel, hidden: Tensor) -> Tensor:
        asked.append(len(hidden))
        return logits(self, hidden)

    monkeypatch.setattr(LanguageModel, "logits", count)
    monkeypatch.setattr("proponent.gradients.backprop.slice_rows", {model.vocabulary: 2}.get)
    with captured(model, find_matrices(model), [Factors()], 3):
        backpropagate(model, Batch.of([[5, 6, 7, 8], [9, 4], [3, 2, 1]], [1, 1, 2]))
    assert asked == [2, 2, 1]


def test_no_gradient_of_a_weight_is_formed(shared_model: Shared) -> None:
    """Nothing that is computed on the way to a feature has the shape of a weight, or of n of them."""
    model = shared_model("llama")
    plan = plan_layers(model, 6 * 9, 8)
    ones = {m.name: SecondMoments.ones(m) for m in plan.matrices}
    extract = extractor(model, plan, ones)
    # 3 rows of at most 21 tokens, 20 of them predicted, 63 in all: no side of any weight
    rows = [[0, *range(5, 5 + t)] for t in (20, 16, 8)]
    with Shapes() as shapes:
        extract(rows, [1, 1, 1], "loss")
    assert (3, 3, 3) in shapes.seen or (3, 6, 3, 3) in shapes.seen  # it did look
    sides = {(sum(m.outputs), m.inputs) for m in plan.matrices}
    sides |= {(o, m.inputs) for m in plan.matrices for o in m.outputs}
    for o, i in sides:
        for shape in ((o, i), (i, o), (3, o, i), (3, i, o), (1, o, i), (1, i, o)):
            assert shape not in shapes.seen, f"{shape} by {shapes.seen[shape]}"


@pytest.mark.parametrize(
    ("vocabulary", "rows"), [(1_000, 2_097), (8_192, 256), (49_152, 128), (2**17, 63), (2**24, 1)]
)
def test_slices_of_logits_have_rows_enough_and_fit_into_a_kept_buffer(vocabulary: int, rows: int) -> None:
    assert slice_rows(vocabulary) == rows
