"""The linear modules of a frozen model against torch's own, forward and back."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from proponent.gradients.linear import multiply_fast, product_dtype


class Doubling(nn.Linear):
    """A linear module that computes something else."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def stack(*modules: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(*modules)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made.requires_grad_(False)


def both(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The outputs, and the gradient of their sum of squares."""
    leaf = x.clone().requires_grad_()
    output = model(leaf)
    (gradient,) = torch.autograd.grad(output.square().sum(), leaf)
    return output.detach(), gradient


@pytest.mark.parametrize(
    "modules",
    [(nn.Linear(7, 5), nn.Linear(5, 6)), (nn.Linear(7, 6, bias=False),), (Conv1D(5, 7), Conv1D(6, 5))],
    ids=["linear", "without bias", "Conv1D"],
)
def test_outputs_and_gradients_are_those_of_the_plain_modules(modules: tuple[nn.Module, ...]) -> None:
    model, x = stack(*modules), torch.randn(2, 3, 7)
    expected = both(model, x)
    multiply_fast(model, torch.float32)
    torch.testing.assert_close(both(model, x), expected, rtol=1e-5, atol=1e-5)


def test_in_bfloat16_only_the_products_are_rounded() -> None:
    model, x = stack(nn.Linear(64, 32), nn.LayerNorm(32), nn.Linear(32, 16)), torch.randn(2, 3, 64)
    expected = both(model, x)
    multiply_fast(model, torch.bfloat16)
    assert [p.dtype for p in model[0].parameters()] == [torch.bfloat16] * 2
    assert [p.dtype for p in model[1].parameters()] == [torch.float32] * 2
    for found, plain in zip(both(model, x), expected, strict=True):
        assert found.dtype == torch.float32
        assert float((found - plain).norm() / plain.norm()) < 0.02


def test_tied_weights_stay_tied_among_linear_modules_and_leave_embeddings_alone() -> None:
    embedding, head, other = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False), nn.Linear(4, 9, bias=False)
    head.weight = other.weight = embedding.weight
    multiply_fast(nn.ModuleList([embedding, head, other]).requires_grad_(False), torch.bfloat16)
    assert embedding.weight.dtype == torch.float32
    assert head.weight is other.weight
    assert head.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(("layers", "early"), [(1, 1), (6, 1), (7, 2), (30, 5)])
def test_the_first_layers_keep_their_precision(layers: int, early: int) -> None:
    model = nn.Module()
    model.head = nn.Linear(3, 3)
    model.layers = nn.ModuleList(nn.Sequential(nn.Linear(3, 3), nn.ReLU()) for _ in range(layers))
    multiply_fast(model.requires_grad_(False), torch.bfloat16)
    kept = [layer[0].weight.dtype for layer in model.layers]
    assert kept == [torch.float32] * early + [torch.bfloat16] * (layers - early)
    assert model.head.weight.dtype == torch.bfloat16
    assert product_dtype(model) == torch.bfloat16


def test_the_precision_may_be_chosen_later() -> None:
    model, other, x = stack(nn.Linear(7, 5)), stack(nn.Linear(7, 5)), torch.randn(2, 7)
    multiply_fast(model, torch.float32)
    multiply_fast(model, torch.bfloat16)
    multiply_fast(other, torch.bfloat16)
    assert torch.equal(model(x), other(x))


def test_a_class_that_may_compute_something_else_keeps_its_forward() -> None:
    model, x = stack(Doubling(4, 3)), torch.randn(2, 4)
    expected = model(x)
    multiply_fast(model, torch.bfloat16)
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_trained_after_all_have_gradients(dtype: torch.dtype) -> None:
    model = stack(nn.Linear(4, 3))
    multiply_fast(model, dtype)
    model.requires_grad_(True)
    model(torch.randn(2, 4)).sum().backward()
    assert model[0].weight.grad is not None
    assert model[0].weight.grad.abs().sum() > 0
