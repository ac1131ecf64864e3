"""The scan against a full sort of all scores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tests.index.cases import identity
from torch import Tensor

from proponent.index.background import Background
from proponent.index.codec import Rows, encode
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import Found, Shard, best, merged, search

ROWS, QUERIES, DIM = 57, 4, 6


def scan_of(vectors: Tensor, unit_norm: bool = False) -> QueryScan:
    """Scores by the vectors [q, d] as they are: whitening changes nothing."""
    return QueryScan(QueryTerms(vectors, identity(1, vectors.shape[1])), InnerProduct("train", unit_norm))


def shards(rows: Tensor, size: int) -> Iterator[Shard]:
    """Shards of rows that float16 holds as they are."""
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        norms = part.norm(dim=1)
        yield Shard(first, Rows(part.half(), torch.ones(len(part)), norms), norms)


def small_integers(seed: int, rows: int) -> Tensor:
    """Few different values, exact in float32 whatever the order of a sum: many ties."""
    return torch.randint(-2, 3, (rows, DIM), generator=torch.Generator().manual_seed(seed)).float()


def sorted_whole(scores: Tensor, k: int) -> Found:
    """All scores sorted in Python, by score and then by place in the corpus."""
    columns: list[list[list[float]]] = [[], [], [], []]
    for row in scores.tolist():
        best = sorted(range(len(row)), key=lambda n: (-row[n], n))[:k]
        worst = sorted(range(len(row)), key=lambda n: (row[n], n))[:k]
        for column, values in zip(
            columns, ([row[n] for n in best], best, [row[n] for n in worst], worst), strict=True
        ):
            column.append(list(map(float, values)))
    a, b, c, d = (torch.tensor(column) for column in columns)
    background = Background(len(scores))
    background.add(scores, torch.arange(scores.shape[1]))
    return Found(a, b.long(), c, d.long(), background)


def assert_same(found: Found, expected: Found) -> None:
    for name in ("proponent_scores", "proponent_positions", "opponent_scores", "opponent_positions"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert torch.equal(found.background.quantiles(), expected.background.quantiles())


@pytest.mark.parametrize("size", [1, 2, 7, 56, 57, 1000])
@pytest.mark.parametrize("k", [1, 5, 56, ROWS])
def test_the_scan_finds_what_a_full_sort_finds_ties_by_corpus_order(size: int, k: int) -> None:
    rows, vectors = small_integers(0, ROWS), small_integers(1, QUERIES)
    found = search(shards(rows, size), scan_of(vectors), k)
    assert_same(found, sorted_whole(vectors @ rows.T, k))


@pytest.mark.parametrize("size", [5, 57])
@pytest.mark.parametrize("together", [1, 2, 100])
def test_shards_whose_scores_are_sorted_together_change_nothing(
    together: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proponent.index.search.together", lambda queries: together)
    rows, vectors = small_integers(0, ROWS), small_integers(1, QUERIES)
    found = search(shards(rows, size), scan_of(vectors), 7)
    assert_same(found, sorted_whole(vectors @ rows.T, 7))


def encoded(rows: Tensor, size: int) -> list[Shard]:
    """Shards as an index stores them."""
    made = []
    for first in range(0, len(rows), size):
        part = Rows.stored(encode(rows[first : first + size]))
        made.append(Shard(first, part, part.norms))
    return made


def near_ties(rows: int, dim: int) -> Tensor:
    """Rows whose scores lie close together, of sizes from 1e-9 to 1e9."""
    generator = torch.Generator().manual_seed(7)
    common = torch.randn(dim, generator=generator)
    made = common + 3e-4 * torch.randn(rows, dim, generator=generator)
    return made * torch.logspace(-9, 9, rows)[torch.randperm(rows, generator=generator), None]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("size", [1e-25, 1.0, 1e12])
@pytest.mark.parametrize("k", [1, 10])
def test_scores_are_those_of_float64_for_rows_of_all_sizes(
    k: int, size: float, unit_norm: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr("proponent.index.codec._code_products", None)
    rows = near_ties(300, 512)
    vectors = size * torch.randn(2, 512, generator=torch.Generator().manual_seed(8))
    held = encoded(rows, 64)
    found = search(held, scan_of(vectors, unit_norm), k)
    psi = torch.cat([shard.rows.codes.double() * shard.rows.scale.double()[:, None] for shard in held])
    exact = vectors.double() @ psi.T
    if unit_norm:
        exact /= torch.outer(vectors.double().norm(dim=1), rows.double().norm(dim=1))
    for name, ranked in (("proponent", exact), ("opponent", -exact)):
        scores, positions = (getattr(found, f"{name}_{column}") for column in ("scores", "positions"))
        # sums in another order may swap what lies within their rounding
        torch.testing.assert_close(scores.double(), exact.gather(1, positions), rtol=2e-6, atol=0)
        torch.testing.assert_close(scores.double().abs(), ranked.topk(k).values.abs(), rtol=2e-6, atol=0)


def test_codes_at_the_end_of_float16s_range_are_summed_in_float32() -> None:
    rows = torch.full((5, 8), 60000.0)
    rows[2] *= -1
    found = search(shards(rows, 5), scan_of(torch.ones(1, 8)), 2)
    assert found.proponent_positions.tolist() == [[0, 1]]
    assert found.opponent_positions.tolist() == [[2, 0]]
    assert found.proponent_scores[0, 0] == 8 * 60000


def test_k_beyond_the_corpus_gives_all_of_it() -> None:
    rows, vectors = small_integers(2, 3), small_integers(3, 1)
    found = search(shards(rows, 2), scan_of(vectors), 10)
    assert_same(found, sorted_whole(vectors @ rows.T, 3))


def test_scores_are_divided_by_both_norms() -> None:
    rows, vectors = small_integers(4, ROWS), small_integers(5, QUERIES)
    rows[10] = 0
    vectors[2] = 0
    found = search(shards(rows, 5), scan_of(vectors, unit_norm=True), ROWS)
    expected = torch.zeros(QUERIES, ROWS)
    for q in range(QUERIES):
        for m in range(ROWS):
            if m != 10 and q != 2:
                expected[q, m] = torch.nn.functional.cosine_similarity(vectors[q], rows[m], dim=0)
    back = torch.empty(QUERIES, ROWS).scatter_(1, found.proponent_positions, found.proponent_scores)
    torch.testing.assert_close(back, expected)
    assert (back[:, 10] == 0).all()
    assert (back[2] == 0).all()


def test_opponents_are_the_lowest_scores_lowest_first() -> None:
    rows = torch.tensor([[1.0], [-3.0], [2.0], [-3.0], [0.0]])
    found = search(shards(rows, 2), scan_of(torch.ones(1, 1)), 3)
    assert found.opponent_scores.tolist() == [[-3.0, -3.0, 0.0]]
    assert found.opponent_positions.tolist() == [[1, 3, 4]]
    assert found.proponent_scores.tolist() == [[2.0, 1.0, 0.0]]
    assert found.proponent_positions.tolist() == [[2, 0, 4]]


def test_shards_without_rows_are_passed_over() -> None:
    rows, vectors = small_integers(6, ROWS), small_integers(7, QUERIES)
    some = list(shards(rows, 20))
    held = [Shard(0, some[0].rows.part(0, 0), torch.empty(0)), *some[:1], some[0], *some[1:]]
    held[2] = Shard(20, some[0].rows.part(0, 0), torch.empty(0))
    assert_same(search(held, scan_of(vectors), 7), sorted_whole(vectors @ rows.T, 7))


@pytest.mark.parametrize("size", [1, 7, 57, 100])
def test_parts_of_a_shard_are_shards_in_their_place(size: int) -> None:
    rows = small_integers(8, ROWS)
    (whole,) = shards(rows, ROWS)
    moved = Shard(100, whole.rows, whole.feature_norms)
    parts = list(moved.parts(size))
    assert torch.equal(torch.cat([part.positions for part in parts]), 100 + torch.arange(ROWS))
    assert torch.equal(torch.cat([part.rows.decode() for part in parts]), rows)
    assert torch.equal(torch.cat([part.feature_norms for part in parts]), whole.feature_norms)


@pytest.mark.parametrize("k", [1, 5, ROWS, ROWS + 3])
def test_the_best_of_scores_at_hand_are_those_of_a_full_sort(k: int) -> None:
    scores = small_integers(9, QUERIES) @ small_integers(10, ROWS).T
    assert_same(best(scores, k), sorted_whole(scores, k))


@pytest.mark.parametrize("k", [1, 5, 40])
def test_searches_of_parts_merge_to_the_search_of_all(k: int) -> None:
    """In whatever order the parts come, and where one holds shards from the beginning and the end."""
    rows, vectors = small_integers(0, ROWS), small_integers(1, QUERIES)
    whole = search(shards(rows, 7), scan_of(vectors), k)
    for kept in ([[0, 1, 2], [3, 4, 5, 6, 7, 8]], [[2, 4], [0, 7, 8], [1, 3, 5, 6]], [[8], [*range(8)]]):
        parts = [
            search((s for n, s in enumerate(shards(rows, 7)) if n in numbers), scan_of(vectors), k)
            for numbers in kept
        ]
        assert_same(merged(parts, k), whole)
        assert_same(merged(parts[::-1], k), whole)
