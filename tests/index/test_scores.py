"""Every inner product and norm from the one stored index, against dense matrices and eigendecompositions."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.index.cases import (
    BLOCKS,
    MIXES,
    WIDTH,
    Case,
    draw,
    identity,
    mixed_scan,
    shard_of,
    template_task,
    whitening_of,
)
from torch import Tensor

from proponent.index.codec import Rows
from proponent.index.mix import TaskMix, TaskSubspace
from proponent.index.scores import HESSIANS, InnerProduct, QueryScan, QueryTerms
from proponent.index.search import Shard

DAMPING, MIX = 0.2, 0.7
IDENTITY = identity(BLOCKS, WIDTH)


def sized(rows: int, seed: int) -> Tensor:
    """Features whose coordinates differ in size."""
    return draw(rows, seed) * torch.logspace(-1, 0.5, BLOCKS * WIDTH)


PASSAGES, QUERIES, TASK = sized(60, 0), sized(5, 1), sized(4, 2)


def dense_inverse(hessian: str) -> Tensor:
    """The matrix between query and passage, [d, d] float64."""
    blocks = []
    for passages, task in zip(PASSAGES.double().split(WIDTH, 1), TASK.double().split(WIDTH, 1), strict=True):
        R = passages.T @ passages / len(passages)
        R += DAMPING * R.diagonal().mean() * torch.eye(WIDTH, dtype=torch.float64)
        if hessian == "mixed":
            R = MIX * task.T @ task / len(task) + (1 - MIX) * R
        blocks.append(torch.eye(WIDTH, dtype=torch.float64) if hessian == "none" else torch.linalg.inv(R))
    inverse: Tensor = torch.block_diag(*blocks)
    return inverse


@pytest.mark.parametrize("with_task", [True, False])
@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("hessian", HESSIANS)
def test_scores_are_those_of_dense_matrices(hessian: str, unit_norm: bool, with_task: bool) -> None:
    if hessian == "mixed" and not with_task:
        pytest.skip("a mix is of a task")
    whitening = whitening_of(PASSAGES, BLOCKS, DAMPING)
    subspace = TaskSubspace.of(TASK, whitening) if with_task else None
    mix = TaskMix(subspace, MIX) if subspace is not None and hessian == "mixed" else None
    psi = whitening.whiten(PASSAGES)
    scale = torch.linspace(0.1, 3, len(psi))
    shard = Shard(0, Rows(psi / scale[:, None], scale, psi.norm(dim=1)), PASSAGES.norm(dim=1))
    scan = QueryScan(QueryTerms(QUERIES, whitening, subspace), InnerProduct(hessian, unit_norm, mix))
    assert len(scan) == len(QUERIES)
    found = scan.scores(shard).double()

    inverse = dense_inverse(hessian)
    expected = QUERIES.double() @ inverse @ PASSAGES.double().T
    if unit_norm:
        lengths = [((v.double() @ inverse) * v.double()).sum(1).sqrt() for v in (QUERIES, PASSAGES)]
        expected = expected / torch.outer(*lengths)
        assert expected.abs().max() <= 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_the_three_differ() -> None:
    """Otherwise the test above could not tell one from another."""
    none, train, mixed = (dense_inverse(hessian) for hessian in HESSIANS)
    assert (none - train).abs().max() > 0.1
    assert (mixed - train).abs().max() > 0.1


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


def some_others() -> Case:
    made = case(6)
    return Case(made.passages, torch.cat([made.task[:2], draw(3, 9), made.task[2:4]]), made.task)


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
    "some queries of the task and some that are not": some_others(),
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
    scan = mixed_scan(whitened, IDENTITY, TaskSubspace.of(whitened[:3], IDENTITY), 0.0, unit_norm=False)
    torch.testing.assert_close(scan.scores(shard_of(whitened)), whitened @ whitened.T)


def test_a_tasks_own_queries_have_nothing_of_their_own_to_multiply_with_passages() -> None:
    task = template_task(4)
    subspace = TaskSubspace.of(task, IDENTITY)
    mix = TaskMix(subspace, 0.999)
    assert len(QueryTerms(task, IDENTITY, subspace).far(mix)) == 0
    others = QueryTerms(torch.cat([task, draw(2, 8)]), IDENTITY, subspace)
    assert others.far(mix).tolist() == [4, 5]


@pytest.mark.parametrize("mix", [0.5, 0.999])
@pytest.mark.parametrize("nearly", [0.0, 1e-8, 1e-7, 3e-7, 1e-6, 1e-5, 1e-4])
def test_a_tasks_own_queries_score_alike_in_any_order(mix: float, nearly: float) -> None:
    task = template_task(4)
    task[3] = task[0] + nearly * task[3]
    subspace = TaskSubspace.of(task, IDENTITY)
    shard = shard_of(draw(20, 9))
    own = mixed_scan(task, IDENTITY, subspace, mix).scores(shard)
    for queries, expected in ((task.flip(0), own.flip(0)), (task[3:], own[3:])):
        found = mixed_scan(queries, IDENTITY, subspace, mix).scores(shard)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mix", [0.5, 0.999])
@pytest.mark.parametrize("nearly", [0.0, 1e-8, 1e-7, 3e-7, 1e-6, 1e-5, 1e-4])
def test_queries_that_are_nearly_the_same_score_as_by_the_definition(mix: float, nearly: float) -> None:
    task = template_task(4)
    task[3] = task[0] + nearly * task[3]
    nearly_same = Case(case(4).passages, task, task)
    found = nearly_same.at_query_time(mix, unit_norm=True).double()
    assert (found - nearly_same.direct(mix, unit_norm=True)).abs().max() < 1e-4


@pytest.mark.parametrize("row", [0, 3])
def test_a_query_of_zeros_scores_zero_in_its_own_task(row: int) -> None:
    task = template_task(6)
    task[row] = 0
    subspace = TaskSubspace.of(task, IDENTITY)
    for queries in (task, task.flip(0)):
        scores = mixed_scan(queries, IDENTITY, subspace, 0.9).scores(shard_of(draw(20, 9)))
        assert (scores[queries.norm(dim=1) == 0] == 0).all()
        assert (scores[queries.norm(dim=1) > 0] != 0).all()


def test_a_task_of_zeros_alone_scores_zero() -> None:
    task = torch.zeros(3, BLOCKS * WIDTH)
    scan = mixed_scan(task, IDENTITY, TaskSubspace.of(task, IDENTITY), 0.9)
    assert torch.equal(scan.scores(shard_of(draw(5, 9))), torch.zeros(3, 5))


@pytest.mark.parametrize("hessian", HESSIANS)
def test_a_passage_of_zeros_scores_zero(hessian: str) -> None:
    passages = draw(5, 9)
    passages[2] = 0
    subspace = TaskSubspace.of(template_task(3), IDENTITY)
    inner = InnerProduct(hessian, True, TaskMix(subspace, 0.9) if hessian == "mixed" else None)
    scores = QueryScan(QueryTerms(draw(4, 8), IDENTITY, subspace), inner).scores(shard_of(passages))
    assert (scores[:, 2] == 0).all()
    assert (scores[:, [0, 1, 3, 4]] != 0).all()


@pytest.mark.parametrize("together", [1, 7, 512])
@pytest.mark.parametrize("hessian", HESSIANS)
def test_passages_that_are_scored_together_change_nothing(
    hessian: str, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = some_others()
    whitening = whitening_of(made.passages, BLOCKS, 1.0)
    subspace = TaskSubspace.of(made.task, whitening)
    inner = InnerProduct(hessian, True, TaskMix(subspace, 0.9) if hessian == "mixed" else None)
    queries, shard = QueryTerms(made.queries, whitening, subspace), shard_of(whitening.whiten(made.passages))
    expected = QueryScan(queries, inner).scores(shard)
    monkeypatch.setattr("proponent.index.scores.TOGETHER", together)
    torch.testing.assert_close(QueryScan(queries, inner).scores(shard), expected, rtol=0, atol=1e-6)
