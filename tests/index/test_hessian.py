"""R_train: its mean, damping, whitening and spectrum, against float64 linear algebra."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from proponent.index.hessian import (
    CORNER,
    Hessian,
    HessianSums,
    correlate,
    damped_eigenvalues,
    mean_eigenvalue,
    mirror,
    pack_triangle,
    split_blocks,
    unpack_triangles,
    whiten,
)

BLOCKS, WIDTH = 3, 12


def features(rows: int = 40, seed: int = 0) -> Tensor:
    """Correlated features [n, b * w] of sizes from 0.01 to 10."""
    generator = torch.Generator().manual_seed(seed)
    turned = torch.randn(rows, BLOCKS * WIDTH, generator=generator)
    turned = turned @ torch.randn(BLOCKS * WIDTH, BLOCKS * WIDTH, generator=generator) / 6
    return turned * torch.logspace(-2, 1, BLOCKS * WIDTH)


def mean_of(values: Tensor) -> Hessian:
    sums = HessianSums(BLOCKS, WIDTH)
    sums.add(values)
    return sums.mean()


def every(damping: float) -> Tensor:
    """The same damping in every block."""
    return torch.full((BLOCKS,), damping)


def exact(values: Tensor, damping: float) -> list[Tensor]:
    """Damped R of every block, in float64."""
    blocks = []
    for part in split_blocks(values.double(), BLOCKS):
        R = part.T @ part / len(part)
        blocks.append(R + damping * R.diagonal().mean() * torch.eye(WIDTH, dtype=torch.float64))
    return blocks


def test_r_is_the_mean_of_the_outer_products_of_each_block() -> None:
    values = features()
    found = mean_of(values)
    assert found.count == 40
    for block, part in zip(found.blocks, values.double().split(WIDTH, 1), strict=True):
        expected = torch.stack([torch.outer(row, row) for row in part]).mean(0)
        torch.testing.assert_close(block.double(), expected, rtol=1e-5, atol=1e-7 * float(expected.max()))


@pytest.mark.parametrize("summed", [1, 5, 512])
def test_features_may_come_in_pieces_of_any_size(summed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proponent.index.hessian.STRIP", summed)
    values = features()
    sums = HessianSums(BLOCKS, WIDTH)
    for part in values.split([1, 0, 30, 9]):
        sums.add(part)
    found = sums.mean()
    assert found.count == 40
    for block, expected in zip(found.blocks, mean_of(values).blocks, strict=True):
        torch.testing.assert_close(block, expected, rtol=1e-5, atol=1e-7 * float(expected.max()))
        assert torch.equal(block, block.T)


@pytest.mark.parametrize(("corner", "converted"), [(1, 1), (5, 4), (1, 512), (512, 1)])
def test_features_in_float64_are_whitened_in_float64(
    corner: int, converted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proponent.index.hessian.CORNER", corner)
    monkeypatch.setattr("proponent.index.hessian.STRIP", converted)
    values = features().double()
    factors = mean_of(features()).factors(every(0.01))
    psi = whiten(values, factors)
    for part, factor, given in zip(psi.split(WIDTH, 1), factors, values.split(WIDTH, 1), strict=True):
        torch.testing.assert_close(part @ factor.double().T, given, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rows", [1, 70])
def test_whitening_in_halves_agrees_with_one_substitution_in_float64(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A width of several corners and strips, which do not divide it, of an R of less than full rank."""
    monkeypatch.setattr("proponent.index.hessian.STRIP", 100)
    width = 4 * CORNER + 77
    values = torch.randn(200, width, generator=torch.Generator().manual_seed(3))
    sums = HessianSums(1, width)
    sums.add(values)
    (factor,) = sums.mean().factors(torch.full((1,), 1e-2))
    psi = whiten(values[:rows], (factor,)).double()
    expected = torch.linalg.solve_triangular(factor.double(), values[:rows].double().T, upper=False).T
    assert ((psi - expected).norm(dim=1) / expected.norm(dim=1)).max() < 1e-5


# 5 features cannot fill 12 dimensions: damping alone makes that R invertible
@pytest.mark.parametrize("rows", [40, 5])
@pytest.mark.parametrize("damping", [0.01, 1.0, 100.0])
def test_whitening_is_an_inverse_square_root_of_the_damped_r(rows: int, damping: float) -> None:
    values = features(rows)
    factors = mean_of(values).factors(every(damping))
    identity = torch.eye(BLOCKS * WIDTH)
    W = whiten(identity, factors).T.double()  # columns are W e_i
    expected = torch.block_diag(*(torch.linalg.inv(R) for R in exact(values, damping)))
    torch.testing.assert_close(W.T @ W, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("damping", [0.01, 1.0])
def test_scores_are_those_of_the_symmetric_root(damping: float) -> None:
    """Cholesky's W and R^{-1/2} differ by a rotation, which no inner product sees."""
    values = features()
    psi = whiten(values, mean_of(values).factors(every(damping))).double()
    roots = []
    for R in exact(values, damping):
        sigma, vectors = torch.linalg.eigh(R)
        roots.append((vectors / sigma.sqrt()) @ vectors.T)
    G = torch.cat([part @ root for part, root in zip(values.double().split(WIDTH, 1), roots, strict=True)], 1)
    expected = G @ G.T
    torch.testing.assert_close(psi @ psi.T, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


def test_correlating_undoes_whitening_in_an_inner_product() -> None:
    values = features()
    factors = mean_of(values).factors(every(0.1))
    expected = values[:7].double() @ values.double().T
    found = correlate(values[:7], factors) @ whiten(values, factors).T
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_a_block_does_not_see_the_others() -> None:
    values = features()
    factors = mean_of(values).factors(every(1.0))
    changed = values.clone()
    changed[:, WIDTH : 2 * WIDTH] *= -3
    for transform in (whiten, correlate):
        before, after = (split_blocks(transform(v, factors), BLOCKS) for v in (values, changed))
        assert torch.equal(before[0], after[0])
        torch.testing.assert_close(after[1], -3 * before[1])
        assert torch.equal(before[2], after[2])


def test_a_block_of_zeros_is_damped_as_if_its_scale_were_one() -> None:
    values = features()
    values[:, :WIDTH] = 0
    hessian = mean_of(values)
    assert mean_eigenvalue(hessian.blocks[0]) == 1.0
    factors = hessian.factors(every(0.25))
    torch.testing.assert_close(factors[0], 0.5 * torch.eye(WIDTH))
    assert torch.equal(whiten(values, factors)[:, :WIDTH], torch.zeros(40, WIDTH))
    assert damped_eigenvalues(hessian.eigenvalues(), every(0.25))[0].tolist() == [0.25] * WIDTH


@pytest.mark.parametrize("rows", [40, 5])
def test_eigenvalues_are_descending_and_never_negative(rows: int) -> None:
    values = features(rows)
    found = mean_of(values).eigenvalues()
    assert found.shape == (BLOCKS, WIDTH)
    assert (found >= 0).all()
    assert (found.diff(dim=1) <= 0).all()
    for row, R in zip(found, exact(values, 0.0), strict=True):
        expected = torch.linalg.eigvalsh(R).flip(0)
        torch.testing.assert_close(row.double(), expected, rtol=1e-4, atol=1e-6 * float(expected[0]))


def test_damped_eigenvalues_are_those_of_the_damped_matrix() -> None:
    values = features()
    found = damped_eigenvalues(mean_of(values).eigenvalues(), every(0.3))
    for row, R in zip(found, exact(values, 0.3), strict=True):
        torch.testing.assert_close(row.double(), torch.linalg.eigvalsh(R).flip(0), rtol=1e-4, atol=0)


def test_mean_eigenvalue_is_the_trace_over_the_width() -> None:
    assert mean_eigenvalue(torch.tensor([[3.0, 9.0], [9.0, 1.0]])) == 2.0


@pytest.mark.parametrize("width", [1, 2, 5, 64])
def test_triangles_are_packed_row_by_row_and_come_back(width: int) -> None:
    blocks = tuple(torch.randn(width, width).tril() for _ in range(11))
    packed = {f"factor/{b}": pack_triangle(block) for b, block in enumerate(blocks)}
    assert packed["factor/3"].tolist() == [float(blocks[3][i, j]) for i in range(width) for j in range(i + 1)]
    # files sort names as text, 10 before 2
    found = unpack_triangles("factor", dict(sorted(packed.items())))
    assert len(found) == 11
    assert all(torch.equal(a, b) for a, b in zip(found, blocks, strict=True))


@pytest.mark.parametrize("strip", [1, 2, 512])
def test_a_lower_triangle_tells_its_symmetric_matrix(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proponent.index.hessian.STRIP", strip)
    whole = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]])
    assert torch.equal(mirror(whole.tril() + torch.full((3, 3), 7.0).triu(1)), whole)
