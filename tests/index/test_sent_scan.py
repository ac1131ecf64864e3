"""A scan that is sent to another process gives the same scores, and takes no more along than they need."""

from __future__ import annotations

import pickle

import pytest
import torch
from tests.index.cases import BLOCKS, WIDTH, draw, template_task, whitening_of

from proponent.index.codec import Rows, encode
from proponent.index.mix import TaskMix, TaskSubspace
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import Shard

PASSAGES, QUERIES = 90, 20


@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("hessian", ["none", "train", "mixed"])
@pytest.mark.parametrize("of_the_task", [True, False])
def test_a_sent_scan_gives_the_same_scores(hessian: str, unit_norm: bool, of_the_task: bool) -> None:
    passages, task = draw(PASSAGES, 0), template_task(5)
    whitening = whitening_of(passages, BLOCKS, 1.0)
    subspace = TaskSubspace.of(task, whitening)
    inner = InnerProduct(hessian, unit_norm, TaskMix(subspace, 0.9) if hessian == "mixed" else None)
    queries = QueryTerms(task if of_the_task else draw(QUERIES, 5), whitening, inner.subspace)
    scan, rows = QueryScan(queries, inner), Rows.stored(encode(whitening.whiten(passages)))
    shard = Shard(0, rows, passages.norm(dim=1))
    sent = pickle.loads(pickle.dumps(scan))
    assert len(sent) == len(scan)
    assert torch.equal(sent.scores(shard), scan.scores(shard))


def test_neither_the_whitening_nor_the_features_are_sent() -> None:
    passages = draw(PASSAGES, 0)
    whitening = whitening_of(passages, BLOCKS, 1.0)
    queries = draw(1, 5)
    scan = QueryScan(QueryTerms(queries, whitening), InnerProduct("train", True))
    assert len(pickle.dumps(scan)) < 4 * BLOCKS * WIDTH + 3000 < len(pickle.dumps(whitening))
