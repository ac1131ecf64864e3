"""Products by oneDNN against torch's own."""

from __future__ import annotations

import pytest
import torch

from proponent.products import product


def operands(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(3, 50, 70, dtype=dtype), torch.randn(90, 70, dtype=dtype), torch.randn(90, dtype=dtype)


@pytest.mark.parametrize("with_bias", [False, True])
def test_float32_products_agree_with_float64(with_bias: bool) -> None:
    rows, weight, bias = operands(torch.float64)
    expected = rows @ weight.T + (bias if with_bias else 0)
    found = product(rows.float(), weight.float(), bias.float() if with_bias else None)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)


def test_views_are_multiplied_as_what_they_show() -> None:
    rows, weight, _ = operands(torch.float32)
    turned = rows.transpose(0, 1)[::2]
    torch.testing.assert_close(product(turned, weight), turned @ weight.T, rtol=1e-5, atol=1e-4)
    flat = weight.T.contiguous().T  # the same weight, columns first
    torch.testing.assert_close(product(rows, flat), rows @ weight.T, rtol=1e-5, atol=1e-4)
    for cut in (weight[::2, :60], weight.T[5:65, 20:].T):
        expected = rows[..., :60] @ cut.T
        torch.testing.assert_close(product(rows[..., :60], cut), expected, rtol=1e-5, atol=1e-4)


def test_nothing_times_a_weight_is_nothing() -> None:
    assert product(torch.empty(0, 70), torch.empty(90, 70)).shape == (0, 90)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_keep_their_type(dtype: torch.dtype) -> None:
    rows, weight, bias = operands(dtype)
    assert torch.equal(product(rows, weight, bias), torch.nn.functional.linear(rows, weight, bias))


def test_a_bfloat16_weight_rounds_the_rows_and_they_give_the_type() -> None:
    rows, weight, bias = operands(torch.float32)
    rounded = product(rows.bfloat16(), weight.bfloat16(), bias.bfloat16())
    found = product(rows, weight.bfloat16(), bias.bfloat16())
    assert found.dtype == torch.float32
    assert torch.equal(found, rounded.float())
    with pytest.raises(RuntimeError):
        product(rows.double(), weight)


def test_a_row_does_not_depend_on_what_stands_beside_it() -> None:
    rows, weight, _ = operands(torch.float32)
    alone = product(rows, weight)
    rows[1] = torch.inf
    assert torch.equal(product(rows, weight)[[0, 2]], alone[[0, 2]])
