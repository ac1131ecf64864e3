"""Shrinkage against its definition, worked out the long way, and what it leaves of a block."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.index.cases import hessian_of

from proponent.errors import InputError
from proponent.gradients.spec import FeatureSpec
from proponent.index.damping import (
    LARGEST,
    RULES,
    SMALLEST,
    Damping,
    check_damping,
    damping_of,
    ledoit_wolf,
    oas,
)
from proponent.index.hessian import HessianBlock


def sample(count: int, width: int, tail: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.rand(count, 1, generator=generator) ** -tail
    return torch.randn(count, width, generator=generator) * torch.linspace(0.2, 2, width) * sizes


@pytest.mark.parametrize("tail", [0.0, 0.3])
def test_ledoit_wolf_is_its_definition(tail: float) -> None:
    phi = sample(300, 12, tail).double()
    R = phi.T @ phi / 300
    mean = R.diagonal().mean()
    noise = sum((torch.outer(row, row) - R).square().sum() for row in phi) / 300**2
    spread = (R - mean * torch.eye(12)).square().sum()
    found = ledoit_wolf(HessianBlock(R.float(), 300, float(phi.norm(dim=1).pow(4).mean())))
    assert found == pytest.approx(float(noise / spread), rel=1e-4)
    assert 0 < found < 1


def test_oas_is_its_definition() -> None:
    phi = sample(300, 12, 0.0).double()
    R = phi.T @ phi / 300
    tr, tr2 = R.trace(), (R @ R).trace()
    expected = ((1 - 2 / 12) * tr2 + tr**2) / ((300 + 1 - 2 / 12) * (tr2 - tr**2 / 12))
    assert oas(HessianBlock(R.float(), 300, 0.0)) == pytest.approx(float(expected), rel=1e-5)


def test_more_passages_need_less_and_heavier_tails_more() -> None:
    def rho(count: int, tail: float) -> float:
        return ledoit_wolf(hessian_of(sample(count, 12, tail)))

    assert rho(2000, 0.0) < rho(100, 0.0)
    assert rho(300, 0.0) < rho(300, 0.3)


def test_what_has_no_direction_shrinks_wholly() -> None:
    assert ledoit_wolf(HessianBlock(torch.eye(4), 10, 16.0)) == LARGEST
    assert oas(HessianBlock(torch.eye(4), 10, 16.0)) == LARGEST
    one = torch.tensor([[1.0, 2.0]])
    # one passage is its own mean: Ledoit-Wolf sees no noise, and OAS nothing but noise
    assert ledoit_wolf(HessianBlock(one.T @ one, 1, 25.0)) == SMALLEST
    assert oas(HessianBlock(one.T @ one, 1, 25.0)) == LARGEST


def test_the_default_of_a_spec_is_a_rule() -> None:
    assert tuple(RULES) == ("oas", "ledoit-wolf")
    assert inspect.signature(FeatureSpec).parameters["damping"].default in RULES


@pytest.mark.parametrize("damping", [0.3, 1, 1e-9, 1e6])
def test_a_number_is_the_damping_of_every_block_and_keeps_all_of_r(damping: float) -> None:
    for block in (HessianBlock(torch.eye(3), 9, 1.0), HessianBlock(torch.ones(3, 3), 9, 1.0)):
        assert damping_of(damping, block) == Damping(1.0, damping)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_reads_off_each_block_how_much_of_it_is_kept(rule: str) -> None:
    shares = []
    for block in (hessian_of(sample(300, 12, 0.0)), hessian_of(sample(30, 12, 0.2))):
        found = damping_of(rule, block)
        shares.append(RULES[rule](block))
        assert found.ridge == pytest.approx(shares[-1])
        assert found.keep == pytest.approx(1 - shares[-1])
    assert SMALLEST < shares[0] < shares[1] < LARGEST


@given(
    seed=st.integers(0, 2**20),
    count=st.integers(1, 60),
    width=st.integers(2, 12),
    tail=st.floats(0, 2),
    rule=st.sampled_from(list(RULES)),
)
def test_a_rule_keeps_a_share_and_gives_the_rest_to_the_ridge(
    seed: int, count: int, width: int, tail: float, rule: str
) -> None:
    """So that whatever ρ, the mean eigenvalue of (1 − ρ) R + ρ μ I is that of R."""
    found = damping_of(rule, hessian_of(sample(count, width, tail, seed)))
    assert 0.999e-3 <= found.keep < 1
    assert SMALLEST <= found.ridge <= LARGEST
    assert found.keep + found.ridge == pytest.approx(1, abs=1e-15)


BAD = ["optimal", "", "OAS", "1.0", 0.0, -1.0, -1, 0, math.inf, math.nan, -math.inf, None]


@pytest.mark.parametrize("damping", BAD)
def test_other_dampings_are_refused_naming_them_and_the_rules(damping: float | str) -> None:
    for refused in (check_damping, lambda value: damping_of(value, HessianBlock(torch.eye(3), 9, 1.0))):
        with pytest.raises(InputError, match="give a positive number or one of oas, ledoit-wolf") as raised:
            refused(damping)
        assert f"damping is '{damping}'" in str(raised.value)


@pytest.mark.parametrize("damping", [1e-9, 1, 30.0, *RULES])
def test_numbers_above_zero_and_rules_are_taken(damping: float | str) -> None:
    check_damping(damping)
