"""Subsets of a corpus: chosen by the scores of a scan, from candidates or all, and written as a corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.references.selection import best_set, log_det_value, sets_of, support_value
from tests.runs import QUERIES, SlowRun

import proponent as pp
from proponent.attribute import subset
from proponent.attribute.candidates import CONTRAST, Candidates
from proponent.attribute.method import Method
from proponent.attribute.subset import Aim, selected
from proponent.attribute.tracing import Tracer
from proponent.errors import InputError
from proponent.progress import Silent

TRAIN = Method.of("trackstar")


def candidates_of(run: SlowRun, each: int, task: bool = False) -> Candidates:
    tracer = Tracer(run.index, "cpu")
    mix = tracer.task_mix(QUERIES, 0.5) if task else None
    return Candidates.of(tracer, QUERIES, TRAIN, mix, each, Silent())


@pytest.mark.parametrize("task", [False, True])
def test_candidates_have_the_scores_of_a_trace(run: SlowRun, task: bool) -> None:
    found = candidates_of(run, 3, task)
    expected = run.scores(QUERIES, TRAIN, QUERIES if task else (), 0.5 if task else 0.0)
    assert found.scores == pytest.approx(expected[:, found.positions], abs=2e-3)
    best = expected.topk(3, dim=1)
    assert found.positions.tolist() == best.indices.flatten().unique().tolist()
    assert found.beyond == pytest.approx(best.values[:, -1].clamp(min=0), abs=2e-3)
    assert found.others == len(run.chunks) - len(found.positions)
    others = [n for n in range(len(run.chunks)) if n not in found.positions.tolist()]
    assert others, "the test needs some that are no candidates"
    assert (expected[:, others] <= found.beyond[:, None] + 2e-3).all()
    influence = expected[:, others].clamp(min=0).sum(0).max()
    assert found.influence_beyond == pytest.approx(float(influence), abs=5e-3)


def test_the_most_influential_of_them(run: SlowRun) -> None:
    found = candidates_of(run, len(run.chunks))
    few = found.most_influential(4)
    order = found.influence.argsort(descending=True)
    assert few.positions.tolist() == sorted(order[:4].tolist())
    assert few.influence_beyond == pytest.approx(float(found.influence[order[4]]))
    assert (found.scores[:, order[4:]] <= few.beyond[:, None]).all()
    assert few.others == len(run.chunks) - 4
    assert found.most_influential(100) is found


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_a_subset_against_every_subset(run: SlowRun, decay: float) -> None:
    found = pp.select(run.index, QUERIES, Aim(3, decay=decay), device="cpu")
    value = support_value(run.scores(QUERIES, TRAIN), decay)
    best = best_set(value, sets_of(len(run.chunks), 3))
    assert value([run.chunks.index(p.id) for p in found]) == pytest.approx(found.value, abs=5e-3)
    assert found.value >= 0.632 * best
    assert found.share * best <= found.value + 5e-3
    assert found.lost == 0
    assert (found.candidates, len(found)) == (len(run.chunks), 3)


def test_log_det_against_its_definition(run: SlowRun) -> None:
    found = pp.select(run.index, QUERIES, Aim(3, "log-det"), device="cpu")
    influence = run.scores(QUERIES, TRAIN).clamp(min=0).sum(0)
    width, G = run.plan.block_width, []
    for part in run.passages.split(width, 1):
        R = part.T @ part / len(part)
        R = R + 0.5 * R.diagonal().mean() * torch.eye(width, dtype=torch.float64)
        G.append(torch.linalg.solve_triangular(torch.linalg.cholesky(R), part.T, upper=False).T)
    psi = torch.cat(G, 1)
    psi = psi / psi.norm(dim=1, keepdim=True) * (influence / influence.max())[:, None] * CONTRAST**0.5
    value = log_det_value(psi @ psi.T)
    assert value([run.chunks.index(p.id) for p in found]) == pytest.approx(found.value, rel=0.01)
    assert found.value >= 0.632 * best_set(value, sets_of(len(run.chunks), 3))


def test_supports_and_the_order(run: SlowRun) -> None:
    found = pp.select(run.index, QUERIES, 5, device="cpu")
    scores = run.scores(QUERIES, TRAIN)[:, [run.chunks.index(p.id) for p in found]]
    best = {query.id: found[int(row.argmax())].id for query, row in zip(QUERIES, scores, strict=True)}
    assert {id: p.id for p in found for id in p.supports} == best
    adds = [p.adds for p in found]
    assert adds == sorted(adds, reverse=True)
    assert sum(adds) == pytest.approx(found.value)


def test_chunks_of_a_passage_are_limited(run: SlowRun) -> None:
    queries = [("A passage that is", "much longer"), ("and so is cut", "into three of them")]
    free = pp.select(run.index, queries, Aim(5, decay=1.0), device="cpu")
    assert sum(p.source == "long" for p in free) > 1
    found = pp.select(run.index, queries, Aim(5, decay=1.0, per_source=1), device="cpu")
    assert sum(p.source == "long" for p in found) == 1
    assert max([p.source for p in found].count(p.source) for p in found) == 1


def test_samples_and_their_seed(run: SlowRun) -> None:
    made = [
        [p.id for p in pp.select(run.index, QUERIES, Aim(4, epsilon=0.5, seed=seed), device="cpu")]
        for seed in (0, 0, 1, 2, 3)
    ]
    assert made[0] == made[1]
    assert len(set(map(tuple, made))) > 1


def test_it_ends_where_nothing_adds_anything(run: SlowRun) -> None:
    found = pp.select(run.index, QUERIES[:1], Aim(5, decay=0.0), device="cpu")
    assert len(found) == 1
    assert "no other may be taken or adds anything" in found.summary


def test_few_candidates_say_so(run: SlowRun) -> None:
    found = selected(candidates_of(run, 1), Aim(6, decay=0.5), {})
    assert found.lost is not None
    assert found.lost > 0
    assert found.share < 1


def test_a_subset_is_a_corpus(run: SlowRun, tmp_path: Path) -> None:
    found = pp.select(run.index, QUERIES, 4, device="cpu")
    found.write(tmp_path / "subset.jsonl")
    read = list(pp.Corpus.read(tmp_path / "subset.jsonl"))
    assert [(e.id, e.text) for e in read] == [(p.id, p.text) for p in found]
    assert [(e.id, e.text) for e in found.corpus()] == [(p.id, p.text) for p in found]
    records = [json.loads(line) for line in (tmp_path / "subset.jsonl").read_text("utf-8").splitlines()]
    assert [r["rank"] for r in records] == [1, 2, 3, 4]
    assert list(records[0]) == ["id", "text", "source", "rank", "adds", "supports"]
    assert found[0].id in repr(found)
    assert len(found[1:]) == 3


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"budget": 0}, "the budget is 0; this run holds 12 passages, give 1 to 12"),
        ({"budget": 13}, "the budget is 13"),
        ({"function": "sum"}, "no function 'sum'; choose one of support, log-det"),
        ({"decay": 1.1}, "the decay is 1.1; give 0 to 1"),
        ({"decay": float("nan")}, "the decay is nan"),
        ({"per_source": 0}, "give 1 or more"),
        ({"epsilon": 1.0}, "epsilon is 1.0; give more than 0 and less than 1"),
        ({"epsilon": 0.1, "per_source": 1}, "no bound is known for samples with a limit a source"),
    ],
)
def test_what_cannot_be_asked(run: SlowRun, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        pp.select(run.index, QUERIES, Aim(**{"budget": 3, **change}))


def test_candidates_are_at_least_as_many_as_the_budget(run: SlowRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subset, "CANDIDATES", 1)
    found = pp.select(run.index, QUERIES[:1], Aim(6, decay=1.0), device="cpu")
    assert found.candidates == 6


def test_scores_that_are_held_are_bounded(run: SlowRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subset, "MOST_SCORES", 15)
    found = pp.select(run.index, QUERIES, Aim(3, decay=1.0), device="cpu")
    assert found.candidates == 5
    assert found.lost == pytest.approx(0, abs=1e-6), "the sums of all others are known"
    assert "at least 100 %" in found.summary


def test_a_share_is_never_rounded_up() -> None:
    found = subset.Subset((), 1, 1.0, 0.99981, 0.0, {"budget": 0})
    assert "at least 99.9 %" in found.summary
    assert "at least 100 %" in subset.Subset((), 1, 1.0, 1 - 1e-14, 0.0, {"budget": 0}).summary


def test_log_det_has_a_largest_budget(run: SlowRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subset, "MOST_COMPARED", 4)
    with pytest.raises(InputError, match="log-det chooses up to 4 passages; use 'support' for 5"):
        pp.select(run.index, QUERIES, Aim(5, "log-det"))
    found = pp.select(run.index, QUERIES, Aim(4, "log-det"), device="cpu")
    assert found.candidates == 4
