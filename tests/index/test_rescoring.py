"""Scores from memory against the scans of the index that they stand for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tests.index.test_mix import BLOCKS, MIXES, WIDTH, Case, draw, template_task
from torch import Tensor

from proponent.index.codes import encode_rows
from proponent.index.hessian import HessianSums, whiten
from proponent.index.inner_products import InnerProduct, Mixed, Plain, Train
from proponent.index.mix import TaskMix
from proponent.index.rescoring import Ground, Met, best, rescored
from proponent.index.search import Piece, search

PASSAGES = 700  # more than are decoded at a time
K = 9


class Held:
    """A made-up index in two pieces, a task, and a query in its place among the task's or beyond them."""

    def __init__(self, query: Tensor | None = None) -> None:
        passages = draw(PASSAGES, 0) * torch.linspace(0.05, 1, BLOCKS * WIDTH)
        passages[7] = 0
        self.task = template_task(5)
        self.case = Case(passages, self.task[:1] if query is None else query, self.task)
        sums = HessianSums(BLOCKS, WIDTH)
        sums.add(passages)
        self.factors = sums.mean().factors(torch.ones(BLOCKS))
        self.stored = encode_rows(whiten(passages, self.factors))
        self.mix = TaskMix.of(self.task, self.factors, 0.5)

    def pieces(self) -> Iterator[Piece]:
        psi = whiten(self.case.passages, self.factors)
        columns = (*self.stored.values(), psi.norm(dim=1), self.case.passages.norm(dim=1))
        whole = Piece(0, *columns)
        for start, stop in ((0, 600), (600, PASSAGES)):
            part = whole.part(start, stop)
            yield Piece(start, part.codes, part.scale, part.whitened_norm, part.feature_norm)

    def scanned(self, inner_product: InnerProduct, unit_norm: bool, k: int = PASSAGES) -> Tensor:
        """Scores [n] as a search of the index gives them."""
        found = search(self.pieces(), inner_product.scan(self.case.queries, self.factors, unit_norm), k)
        scores = torch.empty(PASSAGES)
        return scores.scatter(0, found.proponent_positions[0], found.proponent_scores[0])

    def held(self, hessian: str, mix: float, unit_norm: bool, task: bool = True) -> Tensor:
        """The same from memory."""
        directions = self.mix if task else None
        ground = Ground.of(self.pieces(), directions)
        met = Met.of(self.pieces(), self.case.queries, self.factors, directions)
        assert len(ground) == PASSAGES
        return rescored(ground, met, hessian, mix, unit_norm)


OUTSIDE = draw(1, 99)


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).abs().max() < 2e-6 * expected.abs().max()


@pytest.mark.parametrize("query", [None, OUTSIDE], ids=["of the task", "beyond it"])
@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("mix", MIXES)
def test_any_mix_is_that_of_a_scan(query: Tensor | None, unit_norm: bool, mix: float) -> None:
    held = Held(query)
    expected = held.scanned(Mixed(TaskMix.of(held.task, held.factors, mix)), unit_norm)
    assert_same(held.held("mixed", mix, unit_norm), expected)


@pytest.mark.parametrize("query", [None, OUTSIDE], ids=["of the task", "beyond it"])
@pytest.mark.parametrize("mix", MIXES)
def test_any_mix_is_that_of_the_definition(query: Tensor | None, mix: float) -> None:
    """Not to be had for the passage whose gradient is zero; two bytes a coordinate leave three digits."""
    held = Held(query)
    kept = torch.arange(PASSAGES) != 7
    direct = held.case.direct(mix, unit_norm=True)[0][kept]
    found = held.held("mixed", mix, unit_norm=True)
    assert (found[kept] - direct).abs().max() < 1e-3
    assert found[7] == 0


@pytest.mark.parametrize("task", [True, False])
@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize(("hessian", "inner_product"), [("none", Plain()), ("train", Train())])
def test_the_others_are_those_of_a_scan(
    hessian: str, inner_product: InnerProduct, unit_norm: bool, task: bool
) -> None:
    held = Held(OUTSIDE)
    assert_same(held.held(hessian, 0.0, unit_norm, task), held.scanned(inner_product, unit_norm))


def test_passages_within_the_task_keep_their_digits() -> None:
    """What such a passage has beyond the task is next to nothing, which a difference would not find."""
    held = Held()
    held.case.passages[:5] = 3 * held.task
    held.case.passages[:5, 0] *= 1 + 1e-4
    held.stored = encode_rows(whiten(held.case.passages, held.factors))
    expected = held.scanned(Mixed(TaskMix.of(held.task, held.factors, 0.999)), unit_norm=True)
    assert (held.held("mixed", 0.999, unit_norm=True) - expected)[:5].abs().max() < 2e-3


def test_the_best_are_those_of_a_search() -> None:
    held = Held(OUTSIDE)
    found = best(held.held("train", 0.0, unit_norm=True), K)
    expected = search(held.pieces(), Train().scan(held.case.queries, held.factors, True), K)
    assert torch.equal(found.proponent_positions, expected.proponent_positions)
    assert torch.equal(found.opponent_positions, expected.opponent_positions)
    torch.testing.assert_close(found.proponent_scores, expected.proponent_scores)
    torch.testing.assert_close(found.opponent_scores, expected.opponent_scores)
