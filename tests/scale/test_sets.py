"""What sets of passages cost, against what torch does."""

from __future__ import annotations

import pytest
import torch
from tests.scale.counting import Counted
from tests.scale.test_questions import drawn, made, one_thread

from proponent.attribute import distinct, subset
from proponent.attribute.attribution import Hit, ScoredPassage
from proponent.attribute.distinct import diverse
from proponent.corpus.example import Query
from proponent.index.mix import TaskMix, TaskSubspace
from proponent.index.run import Index
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.progress import Silent
from proponent.scale import sets
from proponent.scale.questions import Questions
from proponent.scale.sets import diverse_stage, select_stage
from proponent.scale.shapes import Job

__all__ = ["made", "one_thread"]
K = 10


def hits_of(queries: int, rows: int) -> list[Hit]:
    """Queries with a hundred proponents and a hundred opponents each, no passage twice."""
    found = []
    for query in range(queries):
        first = query * 200
        sides = [
            tuple(
                ScoredPassage(f"p{n}", f"p{n}", "", sign * (1.0 - n / 10_000), row=n % rows)
                for n in range(first + start, first + start + 100)
            )
            for start, sign in ((0, 1), (100, -1))
        ]
        found.append(Hit(Query(f"q{query}", "a", "b"), sides[0], sides[1]))
    return found


@pytest.mark.parametrize("task", [False, True])
def test_diverse_proponents_do_what_is_said(made: tuple[Index, Job], task: bool) -> None:
    index, job = made
    queries, mix = 3, None
    if task:
        mix = TaskMix(TaskSubspace.of(drawn(queries, job), index.whitening), 0.9)
    inner = InnerProduct("mixed" if task else "train", True, mix)
    _ = index.whitening
    with Counted() as counted:
        found = diverse(index, inner, hits_of(queries, len(index)), K, Silent())
    said = diverse_stage(job, Questions(queries, k=K, task=task))
    assert counted.operations == said.operations
    assert 0.7 * counted.peak < said.memory < 2.5 * counted.peak
    assert all(len(hit.proponents) == len(hit.opponents) == K for hit in found)


def test_groups_of_queries_read_the_index_again(
    made: tuple[Index, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, job = made
    monkeypatch.setattr(distinct, "TOGETHER", 1)
    monkeypatch.setattr("proponent.scale.sets.TOGETHER", 1)
    read: list[int] = []
    whole = Index.only

    def only(self: Index, positions: torch.Tensor) -> object:
        read.append(len(positions))
        return whole(self, positions)

    monkeypatch.setattr(Index, "only", only)
    diverse(index, InnerProduct("train", True), hits_of(3, len(index)), K, Silent())
    assert read == [200, 200, 200]
    stages = [diverse_stage(job, Questions(n, k=K)) for n in (1, 3)]
    assert stages[1].read == 3 * stages[0].read


def test_constants_are_those_of_the_code() -> None:
    assert (sets.DISTINCT_EACH, sets.DISTINCT) == (distinct.CANDIDATES_EACH, distinct.CANDIDATES)
    assert (sets.TOGETHER, sets.CANDIDATES) == (distinct.TOGETHER, subset.CANDIDATES)


def test_selection_scores_its_candidates_once_more(made: tuple[Index, Job]) -> None:
    index, job = made
    queries = 20
    scan = QueryScan(QueryTerms(drawn(queries, job), index.whitening), InnerProduct("train", True))
    positions = torch.arange(len(index))
    with Counted() as counted:
        torch.cat([scan.scores(shard) for shard in index.only(positions)], 1)
    assert counted.operations == select_stage(job, Questions(queries), 5).operations
    few = select_stage(Job(job.model, job.features, 10**6, 8), Questions(2), 5)
    assert few.operations == 2 * 2 * 2000 * job.features.dim, "a thousand for each query"
