"""The slow way itself, against things slower and more obvious still."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.references.gradients import exact_feature, full_second_moments, weight_gradients

from proponent.gradients.layers import LayerBlock, LayerPlan, Matrix, find_matrices
from proponent.gradients.model import LanguageModel
from proponent.gradients.outputs import OUTPUT_FUNCTIONS
from proponent.gradients.projection import gaussian_projection

Shared = Callable[[str], LanguageModel]
ROW = [0, 5, 9, 200, 31, 7]


def objective(model: LanguageModel, row: list[int], start: int, output: str) -> float:
    """The output function summed over the tokens from ``start``, one token at a time."""
    with torch.no_grad():
        logits = model.causal(input_ids=torch.tensor([row]), use_cache=False).logits[0].double()
    function = OUTPUT_FUNCTIONS[output].value
    return sum(function(logits[t - 1 : t], torch.tensor([row[t]])).item() for t in range(start, len(row)))


@pytest.mark.parametrize(("family", "output"), [("llama", "loss"), ("gpt2", "margin"), ("gemma2", "logit")])
def test_gradients_are_finite_differences(family: str, output: str, shared_model: Shared) -> None:
    """The change of the output when one weight moves a little, for some weights of every kind of matrix."""
    model = shared_model(family)
    matrices = [m for m in find_matrices(model) if m.depth == 1]
    gradients = weight_gradients(model, matrices, ROW, 2, output)
    step = 2e-3
    for matrix in matrices:
        steepest = int(gradients[matrix.name].abs().argmax())
        o, i = divmod(steepest, matrix.inputs)
        module, offset = matrix.modules[0], 0
        for path, outputs in zip(matrix.modules, matrix.outputs, strict=True):
            if o >= offset + outputs:
                offset += outputs
            else:
                module = path
                break
        weight = model.causal.get_submodule(module).weight
        place = (i, o) if family == "gpt2" else (o - offset, i)
        before = weight[place].item()
        values = []
        for side in (step, -step):
            with torch.no_grad():
                weight[place] = before + side
            values.append(objective(model, ROW, 2, output))
        with torch.no_grad():
            weight[place] = before
        difference = (values[0] - values[1]) / (2 * step)
        assert gradients[matrix.name][o, i].item() == pytest.approx(difference, rel=0.01, abs=1e-3)


def test_the_model_stays_frozen(shared_model: Shared) -> None:
    model = shared_model("llama")
    weight_gradients(model, find_matrices(model), ROW, 1)
    assert all(not p.requires_grad and p.grad is None for p in model.causal.parameters())


def test_full_second_moments_are_means_of_squares(shared_model: Shared) -> None:
    model = shared_model("llama")
    matrices = find_matrices(model)[:1]
    name = matrices[0].name
    rows = [ROW, [0, 9, 9, 4]]
    one, other = (weight_gradients(model, matrices, row, 1)[name].double() for row in rows)
    found = full_second_moments(model, matrices, rows)[name]
    torch.testing.assert_close(found, (one**2 + other**2) / 2)


def test_a_block_is_the_projection_of_its_block_diagonal() -> None:
    """DESIGN 1.2: the sum over a block's matrices is what projecting their concatenation gives."""
    pair = (Matrix(("a",), "mlp", 0, 3, (4,)), Matrix(("b", "c"), "mlp", 0, 2, (1, 4)))
    alone = Matrix(("d",), "attention", 0, 3, (3,))
    plan = LayerPlan((LayerBlock("mlp", pair), LayerBlock("attention", (alone,))), 2)
    shapes = {"a": (4, 3), "b": (5, 2), "d": (3, 3)}
    generator = torch.Generator().manual_seed(0)
    gradients = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    v = {name: torch.rand(*shape, generator=generator) + 0.5 for name, shape in shapes.items()}
    corrected = {name: gradients[name] / v[name] ** 0.5 for name in shapes}
    sides = [gaussian_projection(m, 2, 7) for m in pair]
    outside, inside = torch.cat([s.out_side for s in sides]), torch.cat([s.in_side for s in sides])
    whole = torch.block_diag(corrected["a"], corrected["b"])
    single = gaussian_projection(alone, 2, 7)
    expected = torch.cat(
        [
            (outside.T @ whole @ inside).flatten(),
            (single.out_side.T @ corrected["d"] @ single.in_side).flatten(),
        ]
    )
    torch.testing.assert_close(exact_feature(gradients, plan, v, 7), expected)
