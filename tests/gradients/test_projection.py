"""Projections from a seed: the same everywhere, independent of each other, and of the right size."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from proponent.gradients.layers import Matrix
from proponent.gradients.projection import gaussian_projection

FUSED = Matrix(("layers.0.q", "layers.0.k", "layers.0.v"), "attention", 0, 32, (32, 16, 16))
PINNED_IN = [[1.3522004, 0.85486764], [2.344296, 0.29505819], [-0.68453848, 0.74198896]]
PINNED_OUT = [
    [-0.15818435, -1.2122029],
    [-0.66526043, -0.55615026],
    [-0.24852543, 0.29004046],
    [-0.15760711, 1.4254707],
]
ELSEWHERE = """
from proponent.gradients.layers import Matrix
from proponent.gradients.projection import gaussian_projection
found = gaussian_projection(Matrix(("m.q", "m.k"), "attention", 3, 3, (2, 2)), 2, 11)
print(found.in_side.numpy().tobytes().hex(), found.out_side.numpy().tobytes().hex())
"""


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's of all entries that both have, in order."""
    count = min(a.numel(), b.numel())
    return float(torch.corrcoef(torch.stack([a.flatten()[:count], b.flatten()[:count]]))[0, 1])


def test_shapes() -> None:
    found = gaussian_projection(FUSED, 7, 0)
    assert found.in_side.shape == (32, 7)
    assert found.out_side.shape == (64, 7)
    assert found.in_side.dtype == found.out_side.dtype == torch.float32


def test_pinned_numbers() -> None:
    """An index is only as good as the projections of later queries: these numbers must never change.

    If this fails, NumPy's stream or the key has changed, and old runs cannot be traced any more.
    """
    found = gaussian_projection(Matrix(("m.q", "m.k"), "attention", 3, 3, (2, 2)), 2, 11)
    torch.testing.assert_close(found.in_side, torch.tensor(PINNED_IN), rtol=1e-6, atol=0)
    torch.testing.assert_close(found.out_side, torch.tensor(PINNED_OUT), rtol=1e-6, atol=0)


@pytest.mark.slow
def test_another_process_draws_the_same_bits() -> None:
    found = gaussian_projection(Matrix(("m.q", "m.k"), "attention", 3, 3, (2, 2)), 2, 11)
    answer = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [side.numpy().tobytes().hex() for side in (found.in_side, found.out_side)]
    assert answer.stdout.split() == expected


def test_numbers_do_not_depend_on_what_was_drawn_before() -> None:
    first = gaussian_projection(FUSED, 8, 5)
    torch.manual_seed(1)
    gaussian_projection(replace(FUSED, modules=("other",)), 8, 5)
    again = gaussian_projection(FUSED, 8, 5)
    assert torch.equal(first.in_side, again.in_side)
    assert torch.equal(first.out_side, again.out_side)


@pytest.mark.parametrize(
    ("matrix", "side", "seed"),
    [
        (FUSED, 32, 1),  # another seed
        (FUSED, 16, 0),  # another p: no cut of the larger one
        (replace(FUSED, modules=("layers.1.q", "layers.1.k", "layers.1.v")), 32, 0),  # another matrix
    ],
)
def test_projections_are_independent(matrix: Matrix, side: int, seed: int) -> None:
    """Correlations of 512 or more pairs stay within 5 standard errors, 5/√512 = 0.22, of none."""
    one, other = gaussian_projection(FUSED, 32, 0), gaussian_projection(matrix, side, seed)
    for a, b in ((one.in_side, other.in_side), (one.out_side, other.out_side)):
        assert abs(correlation(a, b)) < 0.22
        assert abs(correlation(a[:, :16], b[:, :16])) < 0.22


def test_the_two_sides_and_the_modules_are_independent() -> None:
    found = gaussian_projection(FUSED, 32, 0)
    q, k, v = found.out_side.split(FUSED.outputs)
    for a, b in ((found.in_side, q), (found.in_side, k), (q, k), (k, v)):
        assert abs(correlation(a, b)) < 0.22


def test_entries_are_gaussian_of_variance_one_over_p() -> None:
    """100,000 entries: standard errors of mean, variance and kurtosis are 1, √2 and √24, over √100,000."""
    wide = Matrix(("m",), "mlp", 0, 1000, (1,))
    for side in (10, 100):
        z = torch.cat([gaussian_projection(wide, side, s).in_side.flatten() for s in range(1000 // side)])
        z = z.double() * side**0.5
        assert len(z) >= 10**5
        error = len(z) ** -0.5
        assert abs(z.mean()) < 5 * error
        assert abs(z.square().mean() - 1) < 5 * 2**0.5 * error
        assert abs(z.pow(4).mean() - 3) < 5 * 96**0.5 * error


@pytest.mark.parametrize("rank", [1, 8])
def test_squared_norms_are_kept_in_expectation(rank: int) -> None:
    """Mean of ‖P_out G P_inᵀ‖² / ‖G‖² over 200 seeds.

    For G of rank one it is a product of two χ²_p / p: standard deviation √((1 + 2/p)² − 1), 0.36 for
    p = 32, and less for higher ranks.  So 5 standard errors of the mean are 5 · 0.36 / √200 = 0.13.
    """
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(64, rank, generator=generator) @ torch.randn(rank, 32, generator=generator)
    ratios = []
    for seed in range(200):
        sides = gaussian_projection(FUSED, 32, seed)
        projected = sides.out_side.T @ gradient @ sides.in_side
        ratios.append((projected.square().sum() / gradient.square().sum()).item())
    assert sum(ratios) / len(ratios) == pytest.approx(1, abs=0.13)


def test_inner_products_are_kept_in_expectation() -> None:
    """Two orthogonal gradients of unit norm: the mean product over 200 seeds is within 5/√(200 · 32) of 0."""
    a, b = torch.zeros(64, 32), torch.zeros(64, 32)
    a[3, 5] = b[40, 9] = 1
    products = []
    for seed in range(200):
        sides = gaussian_projection(FUSED, 32, seed)
        left, right = (sides.out_side.T @ g @ sides.in_side for g in (a, b))
        products.append((left * right).sum().item())
    assert abs(sum(products) / len(products)) < 5 / (200 * 32) ** 0.5
