"""The subspace of a task against its queries whitened in float64, and the automatic mix."""

from __future__ import annotations

import pytest
import torch
from tests.index.cases import BLOCKS, WIDTH, Case, draw, identity, shard_of, template_task, whitening_of
from torch import Tensor

from proponent.index.codec import Rows, encode
from proponent.index.hessian import split_blocks
from proponent.index.mix import (
    MAX_AUTO_MIX,
    TaskMix,
    TaskSubspace,
    automatic_mix,
    crossing_rank,
    gram,
    task_eigenvalues,
    whiten_precisely,
)
from proponent.index.whitening import Whitening

IDENTITY = identity(BLOCKS, WIDTH)


@pytest.fixture(autouse=True)
def several_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proponent.index.mix.STRIP", 5)


def spread() -> Whitening:
    """By an R whose eigenvalues span four orders of magnitude."""
    turn = torch.linalg.qr(draw(BLOCKS * WIDTH, 11)).Q
    return whitening_of(draw(300, 10) * torch.logspace(-2, 0, BLOCKS * WIDTH) @ turn, BLOCKS, 1e-3)


def by_solving(features: Tensor, whitening: Whitening) -> Tensor:
    """ψ [n, d] by LAPACK in float64."""
    parts = zip(split_blocks(features.double(), BLOCKS), whitening.blocks, strict=True)
    solved = [
        torch.linalg.solve_triangular(block.factor.double(), part.T, upper=False).T for part, block in parts
    ]
    return torch.cat(solved, 1)


def own_task(queries: int) -> Tensor:
    return draw(1, 2) * 20 + draw(queries, 3)


def nearly_twice(queries: int, distance: float) -> Tensor:
    """Half of the queries are the other half but for a little."""
    half = draw(queries // 2, 8)
    return torch.cat([half, half + distance * draw(queries // 2, 9)])


TASKS = {
    "one query": own_task(1),
    "fewer queries than coordinates": own_task(7),
    "as many": own_task(WIDTH),
    "more": own_task(3 * WIDTH),
    # of whole numbers, which float32 adds exactly
    "in three directions": (5 * draw(20, 4)[:, :3]).round() @ (50 * draw(3, 5)).round(),
    "twice the same": own_task(6).repeat(2, 1),
    "nothing at all": torch.zeros(4, BLOCKS * WIDTH),
    "nothing in one query": torch.cat([own_task(4), torch.zeros(1, BLOCKS * WIDTH)]),
}
RANKS = {"as many": WIDTH, "more": WIDTH, "in three directions": 3, "twice the same": 6, "nothing at all": 0}
RANKS |= {"one query": 1, "fewer queries than coordinates": 7, "nothing in one query": 4}


# Directions far weaker than the others, of which rounding could make much.
WEAK = {
    "nearly twice the same": nearly_twice(WIDTH // 2, 1e-5),
    "as many": nearly_twice(WIDTH, 1e-5),
    "as many, still more nearly": nearly_twice(WIDTH, 1e-6),
    "more": nearly_twice(3 * WIDTH, 1e-6),
    "one is far louder": torch.cat([1e4 * draw(1, 10), own_task(2 * WIDTH)]),
}


@pytest.mark.parametrize("task", [*TASKS.values(), *WEAK.values()], ids=[*TASKS, *WEAK])
def test_queries_are_whitened_precisely(task: Tensor) -> None:
    whitening = spread()
    for queries in (task, task.flip(0), draw(5, 6), torch.cat([task[:2], draw(2, 7)])):
        expected = by_solving(queries, whitening)
        found = whiten_precisely(queries, whitening)
        assert found.dtype == torch.float64
        assert ((found - expected).norm(dim=1) <= 1e-12 * expected.norm(dim=1)).all()


@pytest.mark.parametrize("name", TASKS)
def test_directions_are_orthonormal_and_as_many_as_the_task_has(name: str) -> None:
    subspace = TaskSubspace.of(TASKS[name], spread())
    assert [u.shape for u in subspace.directions] == [(WIDTH, RANKS[name])] * BLOCKS
    assert subspace.strengths.shape == (BLOCKS * RANKS[name],)
    assert (subspace.strengths > 0).all()
    for u in subspace.directions:
        torch.testing.assert_close(u.T @ u, torch.eye(u.shape[1], dtype=u.dtype), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in TASKS if name != "nothing at all"])
def test_directions_are_eigenvectors_of_the_whitened_task(name: str) -> None:
    task, whitening = TASKS[name], spread()
    subspace = TaskSubspace.of(task, whitening)
    psi = by_solving(task, whitening)
    along, _ = subspace.split(psi)
    parts = (
        subspace.directions,
        subspace.strengths.split(RANKS[name]),
        along.split(RANKS[name], 1),
        split_blocks(psi, BLOCKS),
    )
    for u, sigma, inside, part in zip(*parts, strict=True):
        E = part.T @ part / len(part)
        torch.testing.assert_close(E @ u, u * sigma, rtol=0, atol=1e-6 * float(sigma.max()))
        torch.testing.assert_close(part @ u, inside, rtol=0, atol=1e-6 * float(part.norm()))
        assert sigma.sum() == pytest.approx(float(E.trace()), rel=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_what_queries_have_in_common_survives_whitening(name: str) -> None:
    """Multiples of queries lie in the span of the directions, far more nearly than float32 tells."""
    task, whitening = TASKS[name], spread()
    subspace = TaskSubspace.of(task, whitening)
    asked = torch.cat([task, -task, 2 * task])
    psi = whiten_precisely(asked, whitening)
    along, beyond = subspace.split(psi)
    assert (beyond.norm(dim=1) <= 1e-8 * psi.norm(dim=1).clamp_min(1e-30)).all()
    inside = [a @ u.T for a, u in zip(along.split(max(1, RANKS[name]), 1), subspace.directions, strict=False)]
    if RANKS[name]:
        torch.testing.assert_close(torch.cat(inside, 1), psi, rtol=0, atol=1e-8 * float(psi.norm()))
    if len(task) < WIDTH and task.any():
        rounded = whitening.whiten(asked).double()
        assert (subspace.split(rounded)[1].norm(dim=1) > 1e-8 * rounded.norm(dim=1)).any()


@pytest.mark.parametrize("distance", [1e-3, 1e-5, 1e-7])
def test_weak_directions_beside_strong_ones_are_found(distance: float) -> None:
    task, whitening = nearly_twice(WIDTH // 2, distance), spread()
    subspace = TaskSubspace.of(task, whitening)
    assert len(subspace.strengths) == BLOCKS * WIDTH // 2
    psi = whiten_precisely(task, whitening)
    assert (subspace.split(psi)[1].norm(dim=1) <= 1e-8 * psi.norm(dim=1)).all()
    for u in subspace.directions:
        torch.testing.assert_close(u.T @ u, torch.eye(u.shape[1], dtype=u.dtype), rtol=0, atol=1e-6)


@pytest.mark.parametrize("nearly", [1e-4, 1e-5])
@pytest.mark.parametrize(("strength", "damping"), [(1.0, 1.0), (100.0, 0.01), (100.0, 1.0), (1e4, 1.0)])
def test_a_strong_task_of_queries_that_are_nearly_equal(
    strength: float, damping: float, nearly: float
) -> None:
    """Directions that are weak beside the strongest still matter beside 1 − λ: cosines to 2e-4."""
    task = template_task(4)
    task[3] = task[0] + nearly * task[3]
    case = Case(draw(60, 20), task * strength, task * strength, damping)
    found, expected = (how(0.999, unit_norm=True) for how in (case.at_query_time, case.direct))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-4)


def test_directions_do_not_depend_on_the_order_of_the_queries() -> None:
    task = template_task(5)
    one, other = (TaskSubspace.of(queries, spread()) for queries in (task, task.flip(0)))
    torch.testing.assert_close(one.strengths, other.strengths, rtol=1e-9, atol=0)
    for u, v in zip(one.directions, other.directions, strict=True):
        torch.testing.assert_close(u @ u.T, v @ v.T, rtol=0, atol=1e-9)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("outside", [0.0, 1e-3, 0.1, 10.0])
def test_passages_are_split_as_queries_are(outside: float, stored: bool) -> None:
    """Whether next to nothing of them or nearly all lies beyond the subspace."""
    subspace = TaskSubspace.of(template_task(4), IDENTITY)
    psi = template_task(4).T.matmul(draw(9, 20)[:, :4].T).T + outside * draw(9, 21)
    rows = Rows.stored(encode(psi)) if stored else Rows.in_memory(psi)
    along, beyond = subspace.split(rows.decode().double())
    found = subspace.along(rows)
    torch.testing.assert_close(found.T.double(), along, rtol=0, atol=1e-6 * float(psi.norm()))
    # two bytes a coordinate change norms, which are those of before, by so much
    rounding = 2e-3 * beyond.norm(dim=1) if stored else 0.0
    off = (subspace.beyond(rows, found).double().sqrt() - beyond.norm(dim=1)).abs()
    assert (off <= rounding + 1e-6 * psi.double().norm(dim=1)).all()


def test_passages_within_the_subspace_keep_their_digits() -> None:
    """Of what they have beyond it a difference of norms would tell nothing."""
    subspace = TaskSubspace.of(template_task(4), IDENTITY)
    psi = template_task(4)
    psi[:, 0] *= 1 + 1e-3
    rows = Rows.in_memory(psi)
    expected = subspace.split(psi.double())[1].square().sum(1)
    assert (expected < 1e-6 * psi.double().square().sum(1)).all()
    torch.testing.assert_close(
        subspace.beyond(rows, subspace.along(rows)).double(), expected, rtol=1e-2, atol=0
    )


def test_a_mix_shrinks_each_direction_by_its_strength() -> None:
    subspace = TaskSubspace.of(template_task(4), IDENTITY)
    for mix in (0.0, 0.5, 0.999):
        expected = [1 / (1 - mix + mix * sigma) for sigma in subspace.strengths.tolist()]
        assert TaskMix(subspace, mix).shrink().tolist() == pytest.approx(expected)


def test_gram_matrices_are_made_in_strips_as_far_as_the_diagonal() -> None:
    rows = draw(13, 30).double()
    torch.testing.assert_close(gram(rows).tril(), (rows @ rows.T).tril())


def test_a_shard_of_zeros_has_nothing_along_or_beyond() -> None:
    subspace = TaskSubspace.of(template_task(4), IDENTITY)
    rows = shard_of(torch.zeros(3, BLOCKS * WIDTH)).rows
    along = subspace.along(rows)
    assert not along.any()
    assert not subspace.beyond(rows, along).any()


def test_the_crossing_rank_is_the_papers_in_proportion() -> None:
    assert [crossing_rank(d) for d in (2**16, 2**17, 2**10, 64, 1)] == [1000, 2000, 16, 1, 1]


def descending(count: int) -> Tensor:
    """count, count - 1, ..., 1, shuffled."""
    return torch.arange(1.0, count + 1)[torch.randperm(count, generator=torch.Generator().manual_seed(0))]


def test_the_automatic_mix_lets_the_eigenvalues_cross_at_the_rank() -> None:
    # d = 2^17 / 4096 * ... : 131 dimensions, k = 2; the second largest are 130 and 390: 130 / 520
    train, task = descending(131), 3 * descending(131)
    assert crossing_rank(131) == 2
    assert automatic_mix(train, task) == pytest.approx(0.25)


def test_the_automatic_mix_balances_the_two_sides() -> None:
    train, task = descending(2**12), descending(2**12).square()
    k = crossing_rank(2**12)
    mix = automatic_mix(train, task)
    of_task, of_train = (float(v.sort(descending=True).values[k - 1]) for v in (task, train))
    assert mix * of_task == pytest.approx((1 - mix) * of_train)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        # k would be 16 of 1024; a query in 16 blocks spans 16 directions, and half of them is 8
        (torch.tensor([2000.0, 1e-9] * 7 + [1017.0, 1e-9]), 0.5),
        # one direction: k = 1
        (torch.tensor([1024.0]), 0.5),
        # three: half is 1
        (torch.tensor([1.0, 3072.0, 2.0]), 0.25),
    ],
)
def test_few_queries_cannot_drive_the_mix_to_one(task: Tensor, expected: float) -> None:
    assert automatic_mix(descending(1024), task) == pytest.approx(expected, rel=1e-3)


def test_the_automatic_mix_never_exceeds_its_cap() -> None:
    assert automatic_mix(descending(1024), torch.full((40,), 1e-6)) == MAX_AUTO_MIX
    assert MAX_AUTO_MIX < 1


@pytest.mark.parametrize("queries", [3, 40])
def test_task_eigenvalues_are_the_positive_ones_of_r_eval(queries: int) -> None:
    features = draw(queries, 6)
    expected = []
    for part in features.double().split(WIDTH, 1):
        sigma = torch.linalg.eigvalsh(part.T @ part / queries)
        expected.append(sigma[-min(queries, WIDTH) :])
    found = task_eigenvalues(features, BLOCKS)
    torch.testing.assert_close(found.sort().values, torch.cat(expected).sort().values, rtol=1e-6, atol=0)
