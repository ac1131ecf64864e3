"""Certified search: bounds against brute force, the answer that of a full scan, and an end in any case."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from proponent.index.certified import SURE, CodeBounds, Reader, bounds, find
from proponent.index.codec import Rows, encode
from proponent.index.norms import row_norms
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import Shard
from proponent.index.signs import SignRows, encode_signs
from proponent.index.sketch import Sketch
from proponent.index.whitening import ScaledIdentity, Whitening

BLOCKS, WIDTH, SIZE = 4, 256, 512
DIM = BLOCKS * WIDTH
WHITENING = Whitening(tuple(ScaledIdentity(0.5 + b, WIDTH) for b in range(BLOCKS)))
METHODS = [InnerProduct(hessian, unit) for hessian in ("none", "train") for unit in (True, False)]


@dataclass
class Corpus:
    """Rows φ [n, d] as a full index and a compact one hold them, in shards of a few."""

    features: Tensor
    sketch: Sketch = field(default_factory=lambda: Sketch(DIM, SIZE, 0))
    each: int = 37

    def __post_init__(self) -> None:
        whitened, norms = WHITENING.whiten(self.features), row_norms(self.features)
        self.full = [
            Shard(start, Rows.stored(encode(part)), norms[start : start + self.each])
            for start, part in zip(range(0, len(norms), self.each), whitened.split(self.each), strict=True)
        ]
        self.codes = [self.compact(shard) for shard in self.full]

    def compact(self, shard: Shard) -> Shard:
        assert isinstance(shard.rows, Rows)
        tensors = encode_signs(shard.rows.decode(), shard.rows.norms, self.sketch)
        return Shard(shard.first, SignRows.stored(tensors), shard.feature_norms)

    def only(self, positions: Tensor) -> Iterator[Shard]:
        for shard in self.full:
            inside = (positions >= shard.first) & (positions < shard.first + len(shard))
            if inside.any():
                yield shard.only(positions[inside] - shard.first, 0)

    def scores(self, queries: Tensor, inner: InnerProduct) -> Tensor:
        scan = QueryScan(QueryTerms(queries, WHITENING), inner)
        return torch.cat([scan.scores(shard) for shard in self.full], 1)

    def bounds(self, queries: Tensor, inner: InnerProduct, confidence: float) -> tuple[Tensor, Tensor]:
        terms = QueryTerms(queries, WHITENING)
        return bounds(self.codes, CodeBounds(terms, inner, self.sketch, confidence, len(self.features)))

    def reader(self, query: Tensor, inner: InnerProduct) -> Reader:
        scan = QueryScan(QueryTerms(query, WHITENING), inner)
        return Reader(scan, self.only, torch.full((len(self.features),), torch.nan))


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def adversarial(sketch: Sketch, query: Tensor) -> Tensor:
    """Rows on which a bound is hard to keep: along a code's direction, beyond it, ties, zeros, opposites."""
    signs = torch.where(sketch(WHITENING.whiten(query)) >= 0, 1.0, -1.0)
    along = WHITENING.unwhiten(sketch.transposed(signs))
    spike = torch.zeros(3, DIM)
    spike[range(3), [0, SIZE, DIM - 1]] = 100.0
    rows = [query, -query, query * 1e-12, query * 1e9, along, -along, query + along, spike, query * 0]
    return torch.cat([*rows, query, drawn(9, 40, DIM), drawn(10, 40, DIM) + 0.3 * query])


@pytest.mark.parametrize("inner", METHODS, ids=str)
def test_sure_bounds_hold_on_adversarial_rows(inner: InnerProduct) -> None:
    query = drawn(1, 1, DIM)
    corpus = Corpus(adversarial(Sketch(DIM, SIZE, 0), query))
    queries = torch.cat([query, drawn(2, 2, DIM), query * 0])
    lower, upper = corpus.bounds(queries, inner, SURE)
    exact = corpus.scores(queries, inner)
    assert (lower <= exact).all()
    assert (exact <= upper).all()
    if inner == InnerProduct(
        "train", True
    ):  # they say something: of the row that is its own code, nearly all
        assert float((upper - lower).min()) < 0.1
        assert float((upper - lower).max()) < 2.01


@pytest.mark.parametrize("inner", METHODS, ids=str)
@pytest.mark.parametrize("size", [1e-13, 1.0, 1e10])
def test_sure_bounds_hold_for_gradients_of_any_size_and_rows_that_float16_lengthens(
    inner: InnerProduct, size: float
) -> None:
    ones = torch.where(drawn(5, 8, DIM) > 0, 1.0, -1.0)
    ones[:, 0] = 0
    corpus, queries = (
        Corpus(torch.cat([ones, drawn(3, 30, DIM)]) * size),
        torch.cat([ones[:2], drawn(1, 1, DIM)]) * size,
    )
    lower, upper = corpus.bounds(queries, inner, SURE)
    exact = corpus.scores(queries, inner)
    assert bool(torch.isfinite(lower + upper).all())
    assert (lower <= exact).all()
    assert (exact <= upper).all()


@pytest.mark.parametrize("inner", METHODS, ids=str)
def test_a_certified_answer_is_that_of_a_full_scan_and_a_tie_goes_to_the_earlier_row(
    inner: InnerProduct,
) -> None:
    query = drawn(1, 1, DIM)
    corpus, k = Corpus(adversarial(Sketch(DIM, SIZE, 0), query)), 7
    exact = corpus.scores(query, inner)[0]
    for confidence in (SURE, 0.999):
        lower, upper = corpus.bounds(query, inner, confidence)
        reader = corpus.reader(query, inner)
        for sign, bound in ((1, upper[0]), (-1, -lower[0])):
            found = find(reader, bound, k, math.inf, sign)
            order = (sign * exact).sort(descending=True, stable=True).indices[:k]
            assert found.positions.tolist() == order.tolist()
            torch.testing.assert_close(found.scores, exact[order])
            assert found.certain.all()
        assert reader.rows_read <= len(exact)


def test_stopped_by_time_it_says_what_is_certain_and_bounds_what_it_missed() -> None:
    inner, query = InnerProduct("train", True), drawn(1, 1, DIM)
    features = drawn(3, 400, DIM)
    features[123] += 5 * query[0]
    corpus = Corpus(features)
    exact = corpus.scores(query, inner)[0]
    _, upper = corpus.bounds(query, inner, 0.999)
    reader = corpus.reader(query, inner)
    found = find(reader, upper[0], 5, time.monotonic() - 1)
    assert reader.rows_read == 64
    assert found.positions[0] == 123
    assert found.certain.tolist() == [True, False, False, False, False]
    unread = reader.known.isnan()
    assert float(exact[unread].max()) <= found.missed


def test_few_rows_are_read_where_few_stand_out_and_all_where_bounds_say_nothing() -> None:
    inner, query, k = InnerProduct("train", True), drawn(1, 1, DIM), 3
    features = drawn(3, 2000, DIM)
    features[[5, 700, 1999]] += 2 * query
    corpus = Corpus(features)
    read = {}
    for confidence in (0.99, SURE):
        _, upper = corpus.bounds(query, inner, confidence)
        reader = corpus.reader(query, inner)
        found = find(reader, upper[0], k, math.inf)
        assert sorted(found.positions.tolist()) == [5, 700, 1999]
        read[confidence] = reader.rows_read
    assert read[0.99] == 64
    assert read[SURE] <= len(features)


def test_the_stated_probability_is_kept() -> None:
    """Over many draws a bound of a query fails no more often than said; each alone as a normal one would."""
    inner, rows, failed, exceeded = InnerProduct("train", True), 60, 0, 0.0
    features, query = drawn(3, rows, DIM), drawn(1, 1, DIM)
    trials, confidence = 300, 0.8
    exact = Corpus(features).scores(query, inner)
    for seed in range(trials):
        corpus = Corpus(features, Sketch(DIM, 64, seed), each=rows)
        lower, upper = corpus.bounds(query, inner, confidence)
        outside = (exact < lower) | (exact > upper)
        failed += bool(outside.any())
        # bounds of one standard deviation instead fail as often as a normal variable, or less
        middle, reach = (upper + lower) / 2, (upper - lower) / 2
        z = -torch.distributions.Normal(0, 1).icdf(torch.tensor((1 - confidence) / 2 / rows))
        exceeded += float(((exact - middle).abs() > reach / z).float().mean()) / trials
    assert failed <= trials * (1 - confidence)
    assert 0.15 < exceeded < 0.33
