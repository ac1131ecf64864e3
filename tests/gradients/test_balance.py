"""Projections that make features white along both sides of a block, against features that are turned so."""

from __future__ import annotations

import math

import pytest
import torch
from tests.models import make_model
from torch import Tensor

from proponent.gradients.balance import balanced
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.layers import LayerPlan, plan_layers
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.projection import Projection, gaussian_projection

ROWS = [[1, 5 + n % 7, 7, (3 * n) % 40, 2, n % 11] for n in range(40)]
STARTS = [1] * len(ROWS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(str(make_model(tmp_path_factory.mktemp("models") / "tiny")), "cpu")


@pytest.fixture(scope="module")
def plan(model: LanguageModel) -> LayerPlan:
    return plan_layers(model, 144, 2)


@pytest.fixture(scope="module")
def plain(plan: LayerPlan) -> dict[str, Projection]:
    return {m.name: gaussian_projection(m, plan.side, 0) for m in plan.matrices}


def features(model: LanguageModel, plan: LayerPlan, folded: dict[str, Projection]) -> Tensor:
    """Features Φ [n, b, p, p] of the rows, float64."""
    found = FeatureExtractor(model, plan, folded, 256)(ROWS, STARTS, "loss")
    return found.view(len(ROWS), len(plan.blocks), plan.side, plan.side).double()


def root_of(factor: Tensor, damping: float) -> Tensor:
    """The inverse root of a damped matrix, by its singular values."""
    damped = factor + damping * factor.trace() / len(factor) * torch.eye(len(factor), dtype=factor.dtype)
    u, s, v = torch.linalg.svd(damped)
    return u @ torch.diag(s.rsqrt()) @ v


@pytest.mark.parametrize("damping", [1e-6, 0.1])
def test_features_are_whitened_along_both_sides(
    model: LanguageModel, plan: LayerPlan, plain: dict[str, Projection], damping: float
) -> None:
    before = features(model, plan, plain)
    after = features(model, plan, balanced(plan, plain, before.flatten(1), damping))
    for b in range(len(plan.blocks)):
        left = torch.einsum("nij,nkj->ik", before[:, b], before[:, b])
        right = torch.einsum("nji,njk->ik", before[:, b], before[:, b])
        expected = root_of(left, damping) @ before[:, b] @ root_of(right, damping)
        expected *= (before[:, b].square().sum() / expected.square().sum()).sqrt()
        torch.testing.assert_close(after[:, b], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_blocks_keep_their_mean_squared_norm(
    model: LanguageModel, plan: LayerPlan, plain: dict[str, Projection]
) -> None:
    before = features(model, plan, plain)
    after = features(model, plan, balanced(plan, plain, before.flatten(1)))
    norms = (found.square().sum((0, 2, 3)) for found in (before, after))
    torch.testing.assert_close(*norms, rtol=1e-4, atol=0)


def test_rows_that_are_not_finite_are_left_out(plan: LayerPlan, plain: dict[str, Projection]) -> None:
    sample = torch.randn(30, plan.dim, generator=torch.Generator().manual_seed(0))
    broken = torch.cat([sample, torch.full((1, plan.dim), math.nan), torch.full((1, plan.dim), math.inf)])
    some, others = balanced(plan, plain, broken), balanced(plan, plain, sample)
    for name, made in some.items():
        assert torch.equal(made.in_side, others[name].in_side)
        assert torch.equal(made.out_side, others[name].out_side)


def test_a_silent_block_keeps_its_projections(plan: LayerPlan, plain: dict[str, Projection]) -> None:
    for name, made in balanced(plan, plain, torch.zeros(3, plan.dim)).items():
        torch.testing.assert_close(made.in_side, plain[name].in_side)
        torch.testing.assert_close(made.out_side, plain[name].out_side)


def test_white_noise_stays_as_it_is(plan: LayerPlan, plain: dict[str, Projection]) -> None:
    noise = torch.randn(20_000, plan.dim, generator=torch.Generator().manual_seed(1))
    for name, made in balanced(plan, plain, noise).items():
        torch.testing.assert_close(made.in_side, plain[name].in_side, rtol=0.05, atol=0.02)
