"""The task mix at query time against the direct eigendecomposition of the mixed R, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from proponent.index.hessian import HessianSums, whiten
from proponent.index.inner_products import Mixed
from proponent.index.mix import (
    MAX_AUTO_MIX,
    MixedScan,
    TaskMix,
    automatic_mix,
    crossing_rank,
    task_eigenvalues,
)
from proponent.index.search import Piece

BLOCKS, WIDTH = 3, 16
MIXES = [0.0, 0.1, 0.5, 0.9, 0.99, 0.999]


@dataclass(frozen=True)
class Case:
    """Passages, queries and the task's queries, as features [n, b * w]."""

    passages: Tensor
    queries: Tensor
    task: Tensor
    damping: float = 1.0

    def direct(self, mix: float, unit_norm: bool) -> Tensor:
        """Scores [q, n] by R'^{-1/2} of the mixed R, block by block, as the definition says."""
        transformed = []
        parts = (features.double().split(WIDTH, 1) for features in (self.passages, self.queries, self.task))
        for passages, queries, task in zip(*parts, strict=True):
            R_train = passages.T @ passages / len(passages)
            R_train += self.damping * R_train.diagonal().mean() * torch.eye(WIDTH, dtype=torch.float64)
            R_eval = task.T @ task / len(task)
            sigma, vectors = torch.linalg.eigh(mix * R_eval + (1 - mix) * R_train)
            root = (vectors / sigma.sqrt()) @ vectors.T
            transformed.append((queries @ root, passages @ root))
        G_queries, G_passages = (torch.cat(side, 1) for side in zip(*transformed, strict=True))
        if unit_norm:
            G_queries, G_passages = (G / G.norm(dim=1, keepdim=True) for G in (G_queries, G_passages))
        return G_queries @ G_passages.T

    def at_query_time(self, mix: float, unit_norm: bool) -> Tensor:
        """The same from the index that is whitened by R_train alone."""
        sums = HessianSums(BLOCKS, WIDTH)
        sums.add(self.passages)
        factors = sums.mean().factors(torch.full((BLOCKS,), self.damping))
        psi = whiten(self.passages, factors)
        inner_product = Mixed(TaskMix.of(self.task, factors, mix))
        scan = inner_product.scan(self.queries, factors, unit_norm)
        return scan.scores(Piece(0, psi, torch.ones(len(psi)), psi.norm(dim=1), self.passages.norm(dim=1)))


IDENTITY = (torch.eye(WIDTH),) * BLOCKS


def draw(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, BLOCKS * WIDTH, generator=torch.Generator().manual_seed(seed))


def template_task(queries: int, strength: float = 1.0, own: float = 0.3, seed: int = 1) -> Tensor:
    """Queries that share a direction (their template), each with something of its own."""
    return strength * (draw(1, seed) + own * draw(queries, seed + 1))


def case(queries: int, strength: float = 1.0, damping: float = 1.0) -> Case:
    passages = draw(60, 0) * torch.linspace(0.05, 1, BLOCKS * WIDTH)
    task = template_task(queries, strength)
    return Case(passages, task, task, damping)


def duplicated() -> Case:
    task = template_task(4).repeat(3, 1)
    return Case(case(4).passages, task, task)


def passage_is_a_query(strength: float, damping: float) -> Case:
    made = case(5, strength, damping)
    made.passages[7] = made.task[0]
    made.passages[8] = -made.task[1]
    made.passages[9] = made.task[:3].sum(0)  # in the span, of no query alone
    return made


def rank_deficient() -> Case:
    """Ten queries in two directions, and nothing at all in the last block."""
    task = draw(10, 3)[:, :2] @ draw(2, 4)
    task[:, -WIDTH:] = 0
    return Case(case(5).passages, task, task)


def other_queries() -> Case:
    made = case(6)
    return Case(made.passages, draw(9, 9), made.task)


def few_passages() -> Case:
    """Fewer passages than dimensions: damping alone fills the rest of R_train."""
    made = case(6)
    return Case(made.passages[:5], made.queries, made.task, 0.01)


CASES = {
    "one query": case(1),
    "fewer queries than block dimensions": case(5),
    "as many": case(WIDTH),
    "more": case(50),
    "duplicated queries": duplicated(),
    "a passage is a query": passage_is_a_query(1.0, 1.0),
    "a passage is a query, far outside the corpus": passage_is_a_query(30.0, 0.01),
    "rank-deficient task": rank_deficient(),
    "queries that are not of the task": other_queries(),
    "strong template, little damping": case(5, 100.0, 0.01),
    "fewer passages than block dimensions": few_passages(),
}


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("name", CASES)
def test_every_score_agrees_with_the_eigendecomposition(name: str, mix: float) -> None:
    expected = CASES[name].direct(mix, unit_norm=True)
    found = CASES[name].at_query_time(mix, unit_norm=True).double()
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("name", CASES)
def test_scores_without_unit_norm_agree_relative_to_the_querys_largest(name: str, mix: float) -> None:
    expected = CASES[name].direct(mix, unit_norm=False)
    found = CASES[name].at_query_time(mix, unit_norm=False).double()
    largest = expected.abs().amax(1, keepdim=True)
    assert ((found - expected).abs() / largest).max() < 1e-4


@given(
    seed=st.integers(0, 2**20),
    queries=st.integers(1, 2 * WIDTH),
    mix=st.floats(0, 0.999),
    strength=st.floats(-1, 1.5),
    own=st.floats(0.01, 3),
)
def test_scores_agree_whatever_the_task(
    seed: int, queries: int, mix: float, strength: float, own: float
) -> None:
    task = template_task(queries, 10**strength, own, seed)
    drawn = Case(draw(40, seed + 7), task, task)
    assert (drawn.at_query_time(mix, True).double() - drawn.direct(mix, True)).abs().max() < 1e-4


def test_the_mix_matters_here() -> None:
    """A wrong λ or no mix at all would not pass the tests above."""
    scores = [CASES["fewer queries than block dimensions"].direct(mix, True) for mix in MIXES]
    for one, other in pairwise(scores):
        assert (one - other).abs().max() > 0.01


def test_a_mix_of_zero_is_r_train() -> None:
    whitened = draw(6, 5)
    mix = TaskMix.of(whitened[:3], IDENTITY, 0.0)
    piece = Piece(0, whitened, torch.ones(6), whitened.norm(dim=1), whitened.norm(dim=1))
    scores = MixedScan(mix, mix.placed(whitened, IDENTITY), unit_norm=False).scores(piece)
    torch.testing.assert_close(scores, whitened @ whitened.T)


def test_a_tasks_own_queries_meet_no_passage_by_themselves() -> None:
    task = template_task(4)
    mix = TaskMix.of(task, IDENTITY, 0.999)
    assert len(MixedScan(mix, mix.placed(task, IDENTITY), unit_norm=True)._far) == 0
    others = mix.placed(torch.cat([task, draw(2, 8)]), IDENTITY)
    assert MixedScan(mix, others, unit_norm=True)._far.tolist() == [4, 5]


@pytest.mark.parametrize("mix", [0.5, 0.999])
@pytest.mark.parametrize("nearly", [0.0, 1e-8, 1e-7, 3e-7, 1e-6, 1e-5, 1e-4])
def test_a_tasks_own_queries_score_as_if_they_were_others(mix: float, nearly: float) -> None:
    task = template_task(4)
    task[3] = task[0] + nearly * task[3]
    asked = TaskMix.of(task, IDENTITY, mix)
    assert asked.own.beyond.untyped_storage().nbytes() in (0, 8 * task.numel())
    passages = draw(20, 9)
    piece = Piece(0, passages, torch.ones(20), passages.norm(dim=1), passages.norm(dim=1))
    own = MixedScan(asked, asked.placed(task, IDENTITY), unit_norm=True).scores(piece)
    turned = MixedScan(asked, asked.placed(task.flip(0), IDENTITY), unit_norm=True).scores(piece)
    torch.testing.assert_close(own, turned.flip(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("row", [0, 3])
def test_a_query_of_zeros_scores_zero_in_its_own_task(row: int) -> None:
    task = template_task(6)
    task[row] = 0
    mix = TaskMix.of(task, IDENTITY, 0.9)
    passages = draw(20, 9)
    piece = Piece(0, passages, torch.ones(20), passages.norm(dim=1), passages.norm(dim=1))
    for queries in (task, task.flip(0)):
        scores = MixedScan(mix, mix.placed(queries, IDENTITY), unit_norm=True).scores(piece)
        assert (scores[queries.norm(dim=1) == 0] == 0).all()
        assert (scores[queries.norm(dim=1) > 0] != 0).all()


def test_a_task_of_zeros_alone_scores_zero() -> None:
    task = torch.zeros(3, BLOCKS * WIDTH)
    mix = TaskMix.of(task, IDENTITY, 0.9)
    piece = Piece(0, draw(5, 9), torch.ones(5), draw(5, 9).norm(dim=1), draw(5, 9).norm(dim=1))
    assert torch.equal(MixedScan(mix, mix.own, unit_norm=True).scores(piece), torch.zeros(3, 5))


def test_directions_are_orthonormal_and_only_those_that_the_task_has() -> None:
    mix = TaskMix.of(template_task(4).repeat(2, 1), IDENTITY, 0.5)
    assert mix.strengths.shape == (4 * BLOCKS,)
    assert (mix.strengths > 0).all()
    for u in mix.directions:
        assert u.shape == (WIDTH, 4)
        torch.testing.assert_close(u.T @ u, torch.eye(4, dtype=u.dtype), rtol=0, atol=1e-6)


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
