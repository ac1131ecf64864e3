"""Scores from memory against the scans of the index that they stand for, and against the definition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
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

from proponent.index.codec import Rows, encode
from proponent.index.mix import TaskMix, TaskSubspace
from proponent.index.remembered import Remembered, all_terms
from proponent.index.scores import (
    HESSIANS,
    InnerProduct,
    PassageTerms,
    QueryScan,
    QueryTerms,
)
from proponent.index.search import Shard, best, search, values

PASSAGES = 700  # more than are decoded at a time
K = 9


class Held:
    """A made-up index in two shards, a task, and a query that is one of the task's or lies beyond them."""

    def __init__(self, query: Tensor | None = None) -> None:
        passages = draw(PASSAGES, 0) * torch.linspace(0.05, 1, BLOCKS * WIDTH)
        passages[7] = 0
        self.task = template_task(5)
        self.case = Case(passages, self.task[:1] if query is None else query, self.task)
        self.whitening = whitening_of(passages, BLOCKS, 1.0)
        self.store()

    def store(self) -> None:
        """Store the passages as an index does."""
        self.stored = Rows.stored(encode(self.whitening.whiten(self.case.passages)))
        self.subspace = TaskSubspace.of(self.task, self.whitening)

    def shards(self) -> Iterator[Shard]:
        for start, stop in ((0, 600), (600, PASSAGES)):
            norms = self.case.passages[start:stop].norm(dim=1)
            yield Shard(start, self.stored.part(start, stop), norms)

    def each(self, function: Callable[[Shard], Any]) -> list[Any]:
        return values(self.shards(), function)

    def query(self, task: bool = True) -> QueryTerms:
        return QueryTerms(self.case.queries, self.whitening, self.subspace if task else None)

    def inner(self, hessian: str, unit_norm: bool, mix: float = 0.0) -> InnerProduct:
        return InnerProduct(hessian, unit_norm, TaskMix(self.subspace, mix) if hessian == "mixed" else None)

    def scanned(self, inner: InnerProduct) -> Tensor:
        """Scores [n] as a search of the index gives them."""
        found = search(self.shards(), QueryScan(self.query(), inner), PASSAGES)
        scores = torch.empty(PASSAGES)
        return scores.scatter(0, found.proponent_positions[0], found.proponent_scores[0])

    def remembered(self, inner: InnerProduct, task: bool = True) -> Tensor:
        """The same [n] from memory."""
        passages = all_terms(self.each, self.subspace if task else None)
        assert len(passages.norms) == len(passages.whitened_norms) == PASSAGES
        scores = Remembered.of(self.each, self.query(task)).scores(inner, passages)
        assert scores.shape == (1, PASSAGES)
        return scores[0]


OUTSIDE = draw(1, 99)
BOTH = pytest.mark.parametrize("query", [None, OUTSIDE], ids=["of the task", "beyond it"])


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).abs().max() < 2e-6 * expected.abs().max()


@BOTH
@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("mix", MIXES)
def test_any_mix_is_that_of_a_scan(query: Tensor | None, unit_norm: bool, mix: float) -> None:
    held = Held(query)
    inner = held.inner("mixed", unit_norm, mix)
    assert_same(held.remembered(inner), held.scanned(inner))


@BOTH
@pytest.mark.parametrize("mix", MIXES)
def test_any_mix_is_that_of_the_definition(query: Tensor | None, mix: float) -> None:
    """Not to be had for the passage whose gradient is zero; two bytes a coordinate leave three digits."""
    held = Held(query)
    kept = torch.arange(PASSAGES) != 7
    direct = held.case.direct(mix, unit_norm=True)[0][kept]
    found = held.remembered(held.inner("mixed", True, mix))
    assert (found[kept] - direct).abs().max() < 1e-3
    assert found[7] == 0


@pytest.mark.parametrize("task", [True, False])
@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("hessian", ["none", "train"])
def test_the_others_are_those_of_a_scan(hessian: str, unit_norm: bool, task: bool) -> None:
    held = Held(OUTSIDE)
    inner = held.inner(hessian, unit_norm)
    assert_same(held.remembered(inner, task), held.scanned(inner))


@BOTH
def test_one_memory_serves_every_hessian_and_mix_in_turn(query: Tensor | None) -> None:
    held = Held(query)
    passages = all_terms(held.each, held.subspace)
    memory = Remembered.of(held.each, held.query())
    asked = [(hessian, mix) for mix in (0.5, 0.0, 0.999, 0.5) for hessian in HESSIANS]
    for hessian, mix in asked:
        for unit_norm in (True, False):
            inner = held.inner(hessian, unit_norm, mix)
            assert_same(memory.scores(inner, passages)[0], held.scanned(inner))


def partly_outside(distance: float) -> Case:
    """A query of the task but for a share of its norm in a block where the task has nothing."""
    task = template_task(5)
    task[:, -WIDTH:] = 0
    query = task[:1].clone()
    rest = draw(1, 98)[:, -WIDTH:]
    query[:, -WIDTH:] = distance * query.norm() * rest / rest.norm()
    return Case(draw(60, 0), query, task)


# at λ = 0.5 no score shows the smaller of them, at λ = 0.999999 all do
@pytest.mark.parametrize("distance", [1e-6, 3e-8, 1e-8])
def test_another_mix_does_not_keep_what_was_negligible_under_the_old(distance: float) -> None:
    case = partly_outside(distance)
    whitening = identity(BLOCKS, WIDTH)
    subspace = TaskSubspace.of(case.task, whitening)
    shard = shard_of(case.passages)
    query = QueryTerms(case.queries, whitening, subspace)
    each = partial(values, [shard])
    memory, passages = Remembered.of(each, query), all_terms(each, subspace)
    one, other = (TaskMix(subspace, mix) for mix in (0.5, 0.999999))
    assert query.far(other).tolist() == [0]
    if distance < 1e-7:
        assert query.far(one).tolist() == []
    for mix in (one, other, one):
        inner = InnerProduct("mixed", True, mix)
        fresh = mixed_scan(case.queries, whitening, subspace, mix.mix).scores(shard)
        assert_same(memory.scores(inner, passages), fresh)

    def without(mix: TaskMix) -> Tensor:
        """Scores that keep only what lies along the directions."""
        inside = QueryTerms(case.queries * (case.queries.abs() > 1e-4), whitening, subspace)
        return QueryScan(inside, InnerProduct("mixed", False, mix)).scores(shard)

    found = memory.scores(InnerProduct("mixed", False, other), passages)
    expected = partly_exact(case, other.mix)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (without(other) - expected).abs().max() > 3e-4 * expected.abs().max()


def partly_exact(case: Case, mix: float) -> Tensor:
    """Inner products [1, n] under ``(1 − λ) I + λ R_eval`` by solving in float64."""
    made = torch.zeros(1, len(case.passages), dtype=torch.float64)
    parts = (values.double().split(WIDTH, 1) for values in (case.passages, case.queries, case.task))
    for passages, query, task in zip(*parts, strict=True):
        R = mix * task.T @ task / len(task) + (1 - mix) * torch.eye(WIDTH, dtype=torch.float64)
        made += torch.linalg.solve(R, query.T).T @ passages.T
    return made


def test_passages_within_the_task_keep_their_digits() -> None:
    """What such a passage has beyond the task is next to nothing, which a difference would not find."""
    held = Held()
    held.case.passages[:5] = 3 * held.task
    held.case.passages[:5, 0] *= 1 + 1e-4
    held.store()
    inner = held.inner("mixed", True, 0.999)
    assert (held.remembered(inner) - held.scanned(inner))[:5].abs().max() < 2e-3


def test_terms_of_all_passages_are_those_of_their_shards() -> None:
    held = Held()
    whole = all_terms(held.each, held.subspace)
    parts = [PassageTerms.of(shard, held.subspace) for shard in held.shards()]
    for name in ("norms", "whitened_norms", "along", "beyond"):
        expected = torch.cat([getattr(part, name) for part in parts], -1)
        found = getattr(whole, name)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


def test_the_best_are_those_of_a_search() -> None:
    held = Held(OUTSIDE)
    inner = held.inner("train", True)
    found = best(held.remembered(inner)[None], K)
    expected = search(held.shards(), QueryScan(held.query(), inner), K)
    assert torch.equal(found.proponent_positions, expected.proponent_positions)
    assert torch.equal(found.opponent_positions, expected.opponent_positions)
    torch.testing.assert_close(found.proponent_scores, expected.proponent_scores)
    torch.testing.assert_close(found.opponent_scores, expected.opponent_scores)
