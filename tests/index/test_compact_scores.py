"""Scores of a compact index beside those of the full one, under every inner product."""

from __future__ import annotations

import pickle
from functools import partial

import pytest
import torch
from tests.index.test_certified import DIM, WHITENING, Corpus, drawn

from proponent.index.mix import TaskMix, TaskSubspace
from proponent.index.remembered import Remembered, all_terms
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import search, values
from proponent.index.sketch import Sketch
from proponent.index.whitening import Whitening
from proponent.threads import torch_threads

SIZE = 2**15
SKETCH = Sketch(DIM, SIZE, 0)
CODES = Whitening(WHITENING.blocks, SKETCH)


def scan(queries: torch.Tensor, whitening: Whitening, inner: InnerProduct) -> QueryScan:
    return QueryScan(QueryTerms(queries, whitening, inner.subspace), inner)


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("mix", [None, 0.0, 0.5, 0.9])
@pytest.mark.parametrize("hessian", ["none", "train"])
def test_scores_are_those_of_the_full_index_but_for_what_signs_lose(
    hessian: str, mix: float | None, unit: bool
) -> None:
    if mix is not None and hessian == "none":
        return
    queries = torch.cat([drawn(1, 6, DIM), drawn(2, 3, DIM)])
    task, features = queries[:6], drawn(3, 150, DIM)
    features[:9] += queries
    corpus = Corpus(features, SKETCH)
    inner = InnerProduct(hessian, unit)
    if mix is not None:
        inner = InnerProduct("mixed", unit, TaskMix(TaskSubspace.of(task, WHITENING), mix))
    full, codes = scan(queries, WHITENING, inner), scan(queries, CODES, inner)
    exact = torch.cat([full.scores(shard) for shard in corpus.full], 1)
    found = torch.cat([codes.scores(shard) for shard in corpus.codes], 1)
    # three times five deviations of an estimate (docs/theory.md, 10), relative to the best score
    size = exact.abs().amax(1, keepdim=True)
    off = ((found - exact) / size).abs()
    bound = 3 * 5 * 1.26 / SIZE**0.5
    assert float(off[:, 9:].max()) <= bound + (0.06 if mix else 0)
    # under a mix a row along the task's few directions has another norm than one that is spread evenly
    assert float(off.max()) <= (bound if mix is None or not unit else 0.35)
    assert torch.equal(found[:, :50].argmax(1)[:9], torch.arange(9))
    again = pickle.loads(pickle.dumps(codes))
    assert torch.equal(torch.cat([again.scores(shard) for shard in corpus.codes], 1), found)


def test_a_remembered_query_is_ranked_again_without_its_task_alone() -> None:
    queries, corpus = drawn(1, 1, DIM), Corpus(drawn(3, 150, DIM), SKETCH)
    terms = QueryTerms(queries, CODES, TaskSubspace.of(drawn(1, 5, DIM), WHITENING))
    passages = all_terms(partial(values, corpus.codes), terms.subspace)
    assert not len(passages.beyond), "so that a live trace scans again under a mix"
    remembered = Remembered.of(partial(values, corpus.codes), terms)
    for hessian in ("none", "train"):
        inner = InnerProduct(hessian, True)
        expected = torch.cat([scan(queries, CODES, inner).scores(shard) for shard in corpus.codes], 1)
        torch.testing.assert_close(remembered.scores(inner, passages), expected)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("each", [1, 37, 400])
def test_a_search_finds_the_same_with_any_threads_and_shards(threads: int, each: int) -> None:
    queries, features = drawn(1, 2, DIM), drawn(3, 301, DIM)
    inner, corpus = InnerProduct("train", True), Corpus(features, SKETCH, each=each)
    expected = torch.cat([scan(queries, CODES, inner).scores(shard) for shard in corpus.codes], 1)
    with torch_threads(threads):
        found = search(corpus.codes, scan(queries, CODES, inner), 9)
        assert torch.get_num_threads() == threads
    order = expected.sort(dim=1, descending=True, stable=True)
    assert torch.equal(found.proponent_positions, order.indices[:, :9])
    assert torch.equal(found.proponent_scores, order.values[:, :9])
