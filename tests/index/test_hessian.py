"""R_train: its mean, its parts, its spectrum and its packing, against float64 linear algebra."""

from __future__ import annotations

import pytest
import torch
from tests.index.cases import hessian_of
from torch import Tensor

from proponent.index.hessian import (
    HessianBlock,
    HessianSum,
    mirror,
    pack_triangle,
    split_blocks,
    unpack_triangle,
)

BLOCKS, WIDTH = 3, 12


def features(rows: int = 40, seed: int = 0) -> Tensor:
    """Correlated features [n, b * w] of sizes from 0.01 to 10."""
    generator = torch.Generator().manual_seed(seed)
    turned = torch.randn(rows, BLOCKS * WIDTH, generator=generator)
    turned = turned @ torch.randn(BLOCKS * WIDTH, BLOCKS * WIDTH, generator=generator) / 6
    return turned * torch.logspace(-2, 1, BLOCKS * WIDTH)


def parts(rows: int = 40) -> tuple[Tensor, ...]:
    """The same, one tensor a block."""
    return split_blocks(features(rows), BLOCKS)


def summed(values: Tensor, sizes: list[int]) -> HessianSum:
    total = HessianSum.empty(values.shape[1])
    for part in values.split(sizes):
        total.add(part)
    return total


def assert_close(found: HessianBlock, expected: HessianBlock) -> None:
    assert found.count == expected.count
    assert found.fourth == pytest.approx(expected.fourth, rel=1e-6)
    scale = float(expected.matrix.max())
    torch.testing.assert_close(found.matrix, expected.matrix, rtol=1e-5, atol=1e-7 * scale)
    assert torch.equal(found.matrix, found.matrix.T)


def test_r_is_the_mean_of_the_outer_products_of_each_block() -> None:
    for part in parts():
        found = hessian_of(part)
        assert found.count == 40
        expected = torch.stack([torch.outer(row, row) for row in part.double()]).mean(0)
        torch.testing.assert_close(
            found.matrix.double(), expected, rtol=1e-5, atol=1e-7 * float(expected.max())
        )
        assert found.fourth == pytest.approx(float(part.double().norm(dim=1).pow(4).mean()), rel=1e-6)


@pytest.mark.parametrize("strip", [1, 5, 512])
def test_features_may_come_in_parts_of_any_size(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [hessian_of(part) for part in parts()]
    monkeypatch.setattr("proponent.index.hessian.STRIP", strip)
    for part, whole in zip(parts(), expected, strict=True):
        assert_close(summed(part, [1, 0, 30, 9]).mean(), whole)


def test_sums_may_be_made_apart_kept_in_files_and_merged() -> None:
    for part in parts():
        total = HessianSum.empty(WIDTH)
        for some in part.split([7, 20, 0, 13]):
            total.merge(HessianSum.unpack(summed(some, [len(some)]).pack()))
        assert_close(total.mean(), hessian_of(part))


def test_a_sum_and_a_mean_come_back_from_their_tensors_as_they_were() -> None:
    part = parts()[0]
    total = summed(part, [40])
    again = HessianSum.unpack(total.pack())
    assert (again.fourth, again.count) == (total.fourth, total.count)
    assert torch.equal(again.total, total.total.tril())
    block = total.mean()
    found = HessianBlock.unpack(block.pack())
    assert (found.fourth, found.count) == (block.fourth, block.count)
    assert torch.equal(found.matrix, block.matrix)


def test_counts_that_float32_does_not_hold_come_back() -> None:
    count = 2**53 - 1
    found = HessianSum.unpack(HessianSum(torch.zeros(2, 2), 0.1, count).pack())
    assert (found.fourth, found.count) == (0.1, count)


def test_fourth_powers_are_summed_for_features_whose_squares_float32_does_not_hold() -> None:
    for size in (1e-25, 1e25):
        values = size * parts()[0]
        expected = float(values.double().norm(dim=1).pow(4).sum())
        assert summed(values, [40]).fourth == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rows", [40, 5])
def test_eigenvalues_are_descending_and_never_negative(rows: int) -> None:
    for part in parts(rows):
        found = hessian_of(part).eigenvalues()
        assert found.shape == (WIDTH,)
        assert (found >= 0).all()
        assert (found.diff() <= 0).all()
        R = part.double().T @ part.double() / rows
        expected = torch.linalg.eigvalsh(R).flip(0)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6 * float(expected[0]))


def test_mean_eigenvalue_is_the_trace_over_the_width() -> None:
    assert HessianBlock(torch.tensor([[3.0, 9.0], [9.0, 1.0]]), 1, 1.0).mean_eigenvalue == 2.0


def test_a_block_of_zeros_has_a_mean_eigenvalue_of_one() -> None:
    assert hessian_of(torch.zeros(3, 4)).mean_eigenvalue == 1.0


@pytest.mark.parametrize("width", [1, 2, 5, 64])
def test_triangles_are_packed_row_by_row_and_come_back(width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    memory = torch.zeros(width, width)
    for dtype in (torch.float32, torch.float64):
        block = torch.randn(width, width, dtype=dtype, generator=generator).tril()
        packed = pack_triangle(block)
        assert packed.tolist() == [float(block[i, j]) for i in range(width) for j in range(i + 1)]
        assert torch.equal(unpack_triangle(packed), block)
    for _ in range(2):  # the second overwrites the first
        block = torch.randn(width, width, generator=generator).tril()
        assert unpack_triangle(pack_triangle(block), memory) is memory
        assert torch.equal(memory, block)


def test_only_the_lower_triangle_is_packed() -> None:
    whole = torch.arange(9.0).reshape(3, 3)
    assert torch.equal(pack_triangle(whole), pack_triangle(whole.tril()))


@pytest.mark.parametrize("strip", [1, 2, 512])
def test_a_lower_triangle_tells_its_symmetric_matrix(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proponent.index.hessian.STRIP", strip)
    whole = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]])
    assert torch.equal(mirror(whole.tril() + torch.full((3, 3), 7.0).triu(1)), whole)
