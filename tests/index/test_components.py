"""Whitening a task by its components against whitening each query by itself in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from proponent.index import components
from proponent.index.components import Components
from proponent.index.hessian import HessianSums, whiten

WIDTH = 48


@pytest.fixture(autouse=True)
def several_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "STRIP", 20)


def draw(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))


def nearly_twice(queries: int, distance: float) -> Tensor:
    """Half of the queries are the other half but for a little."""
    half = draw(queries // 2, 8)
    return torch.cat([half, half + distance * draw(queries // 2, 9)])


def factor(damping: float = 1e-3) -> Tensor:
    """L of an R whose eigenvalues span four orders of magnitude."""
    sums = HessianSums(1, WIDTH)
    sums.add(draw(300, 0) * torch.logspace(-2, 0, WIDTH) @ torch.linalg.qr(draw(WIDTH, 1)).Q)
    return sums.mean().factors(torch.tensor([damping]))[0]


def template_task(queries: int) -> Tensor:
    return draw(1, 2) * 20 + draw(queries, 3)


TASKS = {
    "one query": template_task(1),
    "fewer queries than coordinates": template_task(7),
    "as many": template_task(WIDTH),
    "more": template_task(3 * WIDTH),
    # of whole numbers, which float32 adds exactly
    "in three directions": (5 * draw(20, 4)[:, :3]).round() @ (50 * draw(3, 5)).round(),
    "twice the same": template_task(6).repeat(2, 1),
    "nothing at all": torch.zeros(4, WIDTH),
    "nothing in one query": torch.cat([template_task(4), torch.zeros(1, WIDTH)]),
}


# Components far weaker than the others, of which rounding could make much.
WEAK = {
    "nearly twice the same": nearly_twice(WIDTH // 2, 1e-5),
    "as many": nearly_twice(WIDTH, 1e-5),
    "as many, still more nearly": nearly_twice(WIDTH, 1e-6),
    "more": nearly_twice(3 * WIDTH, 1e-6),
    "one is far louder": torch.cat([1e4 * draw(1, 10), template_task(2 * WIDTH)]),
}


@pytest.mark.parametrize("task", [*TASKS.values(), *WEAK.values()], ids=[*TASKS, *WEAK])
def test_queries_are_whitened_as_each_is_by_itself_in_float64(task: Tensor) -> None:
    L = factor()
    components = Components.of(task, L)
    for queries in (task, task.flip(0), draw(5, 6), torch.cat([task[:2], draw(2, 7)])):
        expected = whiten(queries.double(), (L,))
        difference = (components.whiten(queries, L) - expected).norm(dim=1)
        assert (difference <= 1e-5 * expected.norm(dim=1)).all()


@pytest.mark.parametrize("name", TASKS)
def test_the_task_is_the_sum_of_its_components(name: str) -> None:
    task = TASKS[name].double()
    components = Components.of(TASKS[name], factor())
    Y, sigma = components.shares, components.strengths
    assert Y.shape[1] == len(sigma) == len(components.whitened) == torch.linalg.matrix_rank(task, rtol=3e-7)
    torch.testing.assert_close(Y.T @ Y, torch.eye(len(sigma), dtype=Y.dtype), rtol=0, atol=1e-6)
    P = Y.T @ task / len(task) ** 0.5
    torch.testing.assert_close(len(task) ** 0.5 * Y @ P, task, rtol=0, atol=2e-6 * float(task.norm()))
    torch.testing.assert_close(P.square().sum(1), sigma, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", TASKS)
def test_the_components_of_such_tasks_are_complete(name: str) -> None:
    assert Components.of(TASKS[name], factor()).complete()


def test_what_is_too_weak_for_a_component_leaves_them_incomplete() -> None:
    task = nearly_twice(WIDTH // 2, 1e-7)
    components = Components.of(task, factor())
    assert len(components.strengths) == WIDTH // 4
    assert not components.complete()


@pytest.mark.parametrize("name", [name for name in TASKS if name != "nothing at all"])
def test_directions_are_eigenvectors_of_the_whitened_task(name: str) -> None:
    components = Components.of(TASKS[name], factor())
    psi = components.whiten(TASKS[name], factor())
    u, sigma, along = components.directions()
    E = psi.T @ psi / len(psi)
    torch.testing.assert_close(E @ u, u * sigma, rtol=0, atol=1e-6 * float(sigma.max()))
    torch.testing.assert_close(psi @ u, along, rtol=0, atol=1e-6 * float(psi.norm()))
    assert sigma.sum() == pytest.approx(float(E.trace()), rel=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_what_queries_have_in_common_survives_whitening(name: str) -> None:
    """Multiples of queries lie in the span of the directions, far more nearly than float32 tells."""
    task, L = TASKS[name], factor()
    components = Components.of(task, L)
    u = components.directions()[0]
    asked = torch.cat([task, -task, 2 * task])
    psi = components.whiten(asked, L)
    beyond = (psi - psi @ u @ u.T).norm(dim=1)
    assert (beyond <= 1e-8 * psi.norm(dim=1).clamp_min(1e-30)).all()
    if len(task) < WIDTH and task.any():
        rounded = whiten(asked, (L,)).double()
        assert ((rounded - rounded @ u @ u.T).norm(dim=1) > 1e-8 * rounded.norm(dim=1)).any()
