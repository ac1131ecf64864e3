"""Every inner product and norm from the one stored index, against dense matrices in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from proponent.index.hessian import HessianSums, whiten
from proponent.index.inner_products import InnerProduct, Mixed, Plain, Train
from proponent.index.mix import TaskMix
from proponent.index.search import Piece

BLOCKS, WIDTH, DAMPING, MIX = 3, 8, 0.2, 0.7


def draw(rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, BLOCKS * WIDTH, generator=generator) * torch.logspace(-1, 0.5, BLOCKS * WIDTH)


PASSAGES, QUERIES, TASK = draw(30, 0), draw(5, 1), draw(4, 2)


def dense_inverse(name: str) -> Tensor:
    """The matrix between query and passage, [d, d] float64."""
    blocks = []
    for passages, task in zip(PASSAGES.double().split(WIDTH, 1), TASK.double().split(WIDTH, 1), strict=True):
        R = passages.T @ passages / len(passages)
        R += DAMPING * R.diagonal().mean() * torch.eye(WIDTH, dtype=torch.float64)
        if name == "mixed":
            R = MIX * task.T @ task / len(task) + (1 - MIX) * R
        blocks.append(torch.eye(WIDTH, dtype=torch.float64) if name == "plain" else torch.linalg.inv(R))
    return torch.block_diag(*blocks)


@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("name", ["plain", "train", "mixed"])
def test_scores_are_those_of_dense_matrices(name: str, unit_norm: bool) -> None:
    sums = HessianSums(BLOCKS, WIDTH)
    sums.add(PASSAGES)
    factors = sums.mean().factors(torch.full((BLOCKS,), DAMPING))
    products: dict[str, InnerProduct] = {
        "plain": Plain(),
        "train": Train(),
        "mixed": Mixed(TaskMix.of(TASK, factors, MIX)),
    }
    psi = whiten(PASSAGES, factors)
    scale = torch.linspace(0.1, 3, len(psi))
    piece = Piece(0, psi / scale[:, None], scale, psi.norm(dim=1), PASSAGES.norm(dim=1))
    found = products[name].scan(QUERIES, factors, unit_norm).scores(piece).double()

    inverse = dense_inverse(name)
    expected = QUERIES.double() @ inverse @ PASSAGES.double().T
    if unit_norm:
        lengths = [((v.double() @ inverse) * v.double()).sum(1).sqrt() for v in (QUERIES, PASSAGES)]
        expected = expected / torch.outer(*lengths)
        assert expected.abs().max() <= 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_the_three_differ() -> None:
    """Otherwise the test above could not tell one from another."""
    plain, train, mixed = (dense_inverse(name) for name in ("plain", "train", "mixed"))
    assert (plain - train).abs().max() > 0.1
    assert (mixed - train).abs().max() > 0.1
