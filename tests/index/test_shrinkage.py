"""Shrinkage against its definition, worked out the long way."""

from __future__ import annotations

import pytest
import torch

from proponent.gradients.spec import DAMPING_RULES
from proponent.index.hessian import Hessian
from proponent.index.shrinkage import LARGEST, RULES, SMALLEST, dampings, ledoit_wolf, oas


def sample(count: int, width: int, tail: float) -> torch.Tensor:
    torch.manual_seed(0)
    sizes = torch.rand(count, 1) ** -tail
    return torch.randn(count, width) * torch.linspace(0.2, 2, width) * sizes


@pytest.mark.parametrize("tail", [0.0, 0.3])
def test_ledoit_wolf_is_its_definition(tail: float) -> None:
    phi = sample(300, 12, tail).double()
    R = phi.T @ phi / 300
    mean = R.diagonal().mean()
    noise = sum((torch.outer(row, row) - R).square().sum() for row in phi) / 300**2
    spread = (R - mean * torch.eye(12)).square().sum()
    found = ledoit_wolf(R.float(), 300, float(phi.norm(dim=1).pow(4).mean()))
    assert found == pytest.approx(float(noise / spread), rel=1e-4)
    assert 0 < found < 1


def test_oas_is_its_definition() -> None:
    phi = sample(300, 12, 0.0).double()
    R = phi.T @ phi / 300
    tr, tr2 = R.trace(), (R @ R).trace()
    expected = ((1 - 2 / 12) * tr2 + tr**2) / ((300 + 1 - 2 / 12) * (tr2 - tr**2 / 12))
    assert oas(R.float(), 300, 0.0) == pytest.approx(float(expected), rel=1e-5)


def test_more_passages_need_less_and_heavier_tails_more() -> None:
    def rho(count: int, tail: float) -> float:
        phi = sample(count, 12, tail)
        return ledoit_wolf(phi.T @ phi / count, count, float(phi.norm(dim=1).pow(4).mean()))

    assert rho(2000, 0.0) < rho(100, 0.0)
    assert rho(300, 0.0) < rho(300, 0.3)


def test_what_has_no_direction_shrinks_wholly() -> None:
    assert ledoit_wolf(torch.eye(4), 10, 16.0) == LARGEST
    assert oas(torch.eye(4), 10, 16.0) == LARGEST
    one = torch.tensor([[1.0, 2.0]])
    # one passage is its own mean: Ledoit-Wolf sees no noise, and OAS nothing but noise
    assert ledoit_wolf(one.T @ one, 1, 25.0) == SMALLEST
    assert oas(one.T @ one, 1, 25.0) == LARGEST


def test_the_rules_are_those_of_the_spec() -> None:
    assert tuple(RULES) == DAMPING_RULES


def test_a_number_is_the_damping_of_every_block() -> None:
    hessian = Hessian((torch.eye(3), torch.ones(3, 3)), 9, torch.ones(2))
    assert dampings(0.3, hessian).tolist() == [0.3, 0.3]
    shares = [oas(block, 9, 1.0) for block in hessian.blocks]
    assert dampings("oas", hessian).tolist() == pytest.approx([s / (1 - s) for s in shares])
