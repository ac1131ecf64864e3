"""The output functions against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from proponent.gradients.outputs import OUTPUT_FUNCTIONS, logit, loss, margin

# p = (1/2, 1/4, 1/4): the softmax of logits that differ by log 2
HALF = torch.tensor([[math.log(2.0), 0.0, 0.0]], dtype=torch.float64)
logit_rows = st.lists(st.floats(-6, 6), min_size=4, max_size=4)


def gradient(output: str, logits: Tensor, target: int) -> Tensor:
    """Gradient [v] of one output with respect to logits [1, v]."""
    return OUTPUT_FUNCTIONS[output].gradient(logits, torch.tensor([target]))[0]


def test_values_by_hand() -> None:
    likely, unlikely = torch.tensor([0]), torch.tensor([1])
    assert loss(HALF, likely).item() == pytest.approx(math.log(2))
    assert loss(HALF, unlikely).item() == pytest.approx(math.log(4))
    assert margin(HALF, likely).item() == pytest.approx(0, abs=1e-12)
    assert margin(HALF, unlikely).item() == pytest.approx(math.log(3))  # -log((1/4) / (3/4))
    assert logit(HALF, likely).item() == pytest.approx(-math.log(2))
    assert logit(HALF, unlikely).item() == 0


def test_gradients_by_hand() -> None:
    # loss: p - onehot; margin: the softmax of the others, and -1 at the target; logit: -onehot
    expected = {"loss": [-0.5, 0.25, 0.25], "margin": [-1.0, 0.5, 0.5], "logit": [-1.0, 0.0, 0.0]}
    for output, values in expected.items():
        assert gradient(output, HALF, 0).tolist() == pytest.approx(values)
    assert gradient("margin", HALF, 1).tolist() == pytest.approx([2 / 3, -1.0, 1 / 3])


@pytest.mark.parametrize("output", OUTPUT_FUNCTIONS)
def test_gradients_are_those_of_autograd(output: str) -> None:
    logits = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 4, 2, 2, 1, 3, 0])
    function, leaf = OUTPUT_FUNCTIONS[output], logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(function.value(leaf, targets).sum(), leaf)
    kept = logits.clone()
    torch.testing.assert_close(function.gradient(logits, targets), expected)
    assert torch.equal(logits, kept)


@given(logit_rows, st.integers(0, 3))
def test_values_are_those_of_the_probability(row: list[float], target: int) -> None:
    logits = torch.tensor([row], dtype=torch.float64)
    p = logits.softmax(-1)[0, target]
    aim = torch.tensor([target])
    assert loss(logits, aim).item() == pytest.approx(-p.log().item(), abs=1e-9)
    assert margin(logits, aim).item() == pytest.approx(-(p / (1 - p)).log().item(), abs=1e-9)
    assert logit(logits, aim).item() == -row[target]


@given(logit_rows, st.integers(0, 3))
def test_the_margin_pushes_as_the_loss_does_but_harder(row: list[float], target: int) -> None:
    """∇ margin = ∇ loss / (1 − p), by the chain rule from −log p to −log(p / (1 − p))."""
    logits = torch.tensor([row], dtype=torch.float64)
    rest = 1 - logits.softmax(-1)[0, target]
    torch.testing.assert_close(gradient("margin", logits, target) * rest, gradient("loss", logits, target))


@pytest.mark.parametrize("height", [40.0, 100.0, 1000.0])
def test_a_certain_prediction_keeps_its_margin(height: float) -> None:
    """In float32, where p rounds to 1 and 1 − p to 0: the margin is then height − log 2."""
    logits = torch.tensor([[height, 0.0, 0.0]])
    assert logits.softmax(-1)[0, 0] == 1
    assert margin(logits, torch.tensor([0])).item() == pytest.approx(math.log(2) - height)
    assert gradient("margin", logits, 0).tolist() == pytest.approx([-1.0, 0.5, 0.5])
    assert loss(logits, torch.tensor([0])).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("output", OUTPUT_FUNCTIONS)
def test_a_hopeless_prediction_stays_finite(output: str) -> None:
    logits = torch.tensor([[-1000.0, 0.0, 0.0]])
    assert OUTPUT_FUNCTIONS[output].value(logits, torch.tensor([0])).item() == pytest.approx(1000, rel=1e-3)
    assert gradient(output, logits, 0).isfinite().all()


@pytest.mark.parametrize("output", OUTPUT_FUNCTIONS)
def test_every_output_falls_as_the_target_becomes_likelier(output: str) -> None:
    assert gradient(output, HALF, 2)[2] < 0


@pytest.mark.parametrize("output", OUTPUT_FUNCTIONS)
def test_rows_do_not_mix(output: str) -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
    targets = torch.tensor([2, 0])
    both = OUTPUT_FUNCTIONS[output].value(logits, targets)
    for n in range(2):
        torch.testing.assert_close(
            OUTPUT_FUNCTIONS[output].value(logits[n : n + 1], targets[n : n + 1])[0], both[n]
        )
