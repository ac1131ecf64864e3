"""Whitening along eigenvectors beside the whole one: the same where all are kept, and what is kept else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from proponent.index.eigen import EigenWhitening
from proponent.index.hessian import HessianSum
from proponent.index.whitening import BlockWhitening, unpack_block

WIDTH = 24


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def features() -> Tensor:
    return drawn(1, 200, WIDTH) * torch.linspace(3, 0.1, WIDTH)


@pytest.fixture
def whole(features: Tensor) -> BlockWhitening:
    return BlockWhitening.of(hessian(features).mean(), 0.1)


def hessian(features: Tensor) -> HessianSum:
    total = HessianSum.empty(WIDTH)
    total.add(features)
    return total


def kept(features: Tensor, whole: BlockWhitening, count: int) -> EigenWhitening:
    made = EigenWhitening.of(hessian(features).mean(), whole.eigenvalues, whole.damping, count)
    found = unpack_block(made.pack())
    assert isinstance(found, EigenWhitening)
    return found


def test_with_all_directions_it_is_a_whitening_like_any_other(
    features: Tensor, whole: BlockWhitening
) -> None:
    every = kept(features, whole, WIDTH)
    ours, theirs = every.whiten(features), whole.whiten(features)
    torch.testing.assert_close(ours @ ours.T, theirs @ theirs.T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(theirs @ every.after(whole.factor).T, ours, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(every.unwhiten(ours), features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(every.adjoint(features) @ ours.T, features @ features.T, rtol=1e-4, atol=1e-3)
    pulled = every.pull_back(ours) @ features.double().T
    torch.testing.assert_close(pulled, (ours @ ours.T).double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(every.damped_eigenvalues, whole.damped_eigenvalues)


@pytest.mark.parametrize("count", [1, 7])
def test_kept_are_the_directions_of_the_largest_eigenvalues(
    features: Tensor, whole: BlockWhitening, count: int
) -> None:
    few = kept(features, whole, count)
    R = features.T.double() @ features.double() / len(features)
    sigma, vectors = torch.linalg.eigh(R + 0.1 * R.diagonal().mean() * torch.eye(WIDTH, dtype=torch.float64))
    U = vectors[:, -count:]
    expected = features.double() @ U @ torch.diag(1 / sigma[-count:]) @ U.T @ features.double().T
    found = few.whiten(features.double())
    torch.testing.assert_close(found @ found.T, expected, rtol=1e-4, atol=1e-4)
    along = features.double() @ U @ U.T
    torch.testing.assert_close(few.unwhiten(found), along, rtol=1e-4, atol=1e-4)
    turned = whole.whiten(features) @ few.after(whole.factor).T
    torch.testing.assert_close(turned.double(), found, rtol=1e-3, atol=1e-4)
