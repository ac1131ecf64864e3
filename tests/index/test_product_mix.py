"""The task mix from inner products alone, against R' that is formed and inverted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from proponent.index.product_mix import ProductMix

BLOCKS, WIDTH = 3, 40


def rows(count: int, seed: int) -> Tensor:
    """Coordinates ψ [b, n, w] of very different lengths."""
    made = torch.randn(BLOCKS, count, WIDTH, generator=torch.manual_seed(seed), dtype=torch.float64)
    return made * torch.logspace(-3, 3, count, dtype=torch.float64)[:, None]


def task(kind: str) -> Tensor:
    few = rows(5, 0)
    return {
        "few": few,
        "none": few[:, :0],
        "one": few[:, 4:],
        "repeated": torch.cat([few, few, few], 1),
        "more than coordinates": rows(2 * WIDTH, 1),
        "zeros": torch.zeros_like(few),
    }[kind]


@pytest.mark.parametrize("mix", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["few", "none", "one", "repeated", "more than coordinates", "zeros"])
def test_products_and_norms(kind: str, mix: float) -> None:
    T, Q, M = task(kind), rows(4, 2), rows(6, 3)
    mix = mix if T.shape[1] else 0.0
    found = ProductMix(T @ T.mT, mix)
    R = (1 - mix) * torch.eye(WIDTH, dtype=torch.float64) + mix * T.mT @ T / max(1, T.shape[1])
    for ours, other in ((Q, M), (M, Q)):
        inner = (ours @ torch.linalg.solve(R, other.mT)).sum(0)
        made = found.products(ours @ other.mT, T @ ours.mT, T @ other.mT)
        sizes = [(side * torch.linalg.solve(R, side.mT).mT).sum((0, 2)).sqrt() for side in (ours, other)]
        assert found.norms(ours.square().sum(2), T @ ours.mT) == pytest.approx(sizes[0], rel=1e-6)
        assert bool(((made - inner).abs() < 1e-6 * torch.outer(*sizes)).all())
