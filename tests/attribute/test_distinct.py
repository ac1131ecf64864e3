"""Passages that do not repeat each other: merged, diverse, and what the scan's inner product says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.runs import CORPUS, QUERIES, SlowRun, small_spec

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.attribute.distinct import beyond_chance, merged
from proponent.attribute.method import Method
from proponent.attribute.table import as_text
from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example, Query
from proponent.index.similarity import similarities
from proponent.index.whitening import Whitening

SENTENCE = "Rome is the capital of Italy and lies on the river Tiber, which flows to the sea"


def hit_of(*texts: str) -> Hit:
    proponents = tuple(ScoredPassage(f"p{n}", f"p{n}", text, 1 - n / 10) for n, text in enumerate(texts))
    return Hit(Query("q", "a", "b"), proponents, ())


def test_near_identical_passages_become_one() -> None:
    found = merged(
        hit_of(SENTENCE, "Oslo lies in Norway.", SENTENCE.upper() + "!", SENTENCE, "Oslo")
    ).proponents
    assert [(p.id, p.duplicates) for p in found] == [("p0", ("p2", "p3")), ("p1", ()), ("p4", ())]


def test_one_word_of_twenty_is_a_difference() -> None:
    words = [f"word{n}" for n in range(20)]
    other = [*words[:9], "another", *words[10:]]
    assert len(merged(hit_of(" ".join(words), " ".join(other))).proponents) == 2
    longer = [f"word{n}" for n in range(100)]
    assert len(merged(hit_of(" ".join(longer), " ".join(["x", *longer[1:]]))).proponents) == 1


def test_likeness_is_what_is_beyond_chance() -> None:
    noise = 0.02 * torch.randn(40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alike = (noise + noise.T) / 2**0.5
    alike[3, 5] = alike[5, 3] = 0.4
    found = beyond_chance(alike.fill_diagonal_(1.0))
    assert 0.3 < float(found[3, 5]) < 0.4
    assert found.diagonal().tolist() == [1.0] * 40
    others = found.fill_diagonal_(0.0)
    others[3, 5] = others[5, 3] = 0
    assert (others > 0).float().mean() < 0.002


def test_another_name_is_another_passage() -> None:
    found = merged(hit_of("Rome is the capital of Italy.", "Paris is the capital of Italy.")).proponents
    assert len(found) == 2


def test_texts_of_few_words() -> None:
    assert len(merged(hit_of("Oslo", "oslo!", "Lima", "", "…")).proponents) == 3


@pytest.mark.parametrize("name", ["trackstar", "cosine", "dot", "trackstar,hessian=train,unit_norm=no"])
@pytest.mark.parametrize("task", [False, True])
def test_similarities_are_cosines_under_the_inner_product(run: SlowRun, name: str, task: bool) -> None:
    method, tracer = Method.of(name), Tracer(run.index, "cpu")
    mix = tracer.task_mix(QUERIES, 0.9, method.output) if task and method.hessian == "mixed" else None
    some = torch.tensor([0, 3, 4, 9, 11])
    found = similarities(run.index.only(some), method.inner_product(mix), run.index.whitening)
    # passages in place of queries give their cosines by the definition
    width, phi = run.plan.block_width, run.passages
    shared = tracer.features(QUERIES).double()
    roots = []
    for part, task_part in zip(phi.split(width, 1), shared.split(width, 1), strict=True):
        R = part.T @ part / len(part)
        R = R + 0.5 * R.diagonal().mean() * torch.eye(width, dtype=torch.float64)
        R = 0.9 * task_part.T @ task_part / len(task_part) + 0.1 * R if mix else R
        sigma, vectors = torch.linalg.eigh(R)
        roots.append((vectors / sigma.sqrt()) @ vectors.T)
    G = phi if method.hessian == "none" else phi @ torch.block_diag(*roots)
    G = G / G.norm(dim=1, keepdim=True)
    assert found == pytest.approx(G[some] @ G[some].T, abs=2e-3)
    assert found.diagonal() == pytest.approx(1, abs=1e-6)


def test_zero_rows_are_like_nothing(run: SlowRun) -> None:
    (shard,) = run.index.only(torch.tensor([0, 1]))
    shard.rows.scale[1] = 0
    found = similarities([shard], Method.of("trackstar").inner_product(None), run.index.whitening)
    assert found.tolist() == [[pytest.approx(1), 0], [0, 0]]
    assert similarities([], Method.of("trackstar").inner_product(None), Whitening(())).shape == (0, 0)


COPIED = ("paris", "copy0", "copy1", "copy2")
COPIES = Corpus.of(
    [*CORPUS, *(Example(f"copy{n}", "The capital of France is Paris.", f"memory:copy{n}") for n in range(3))]
)


@pytest.fixture(scope="module")
def repeating(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tracer:
    """A run in which one passage stands four times."""
    path = tmp_path_factory.mktemp("repeating") / "run"
    return Tracer(build_index(COPIES, small_spec(model_folder), path, "cpu"), "cpu")


@pytest.mark.parametrize("task", [None, QUERIES])
@pytest.mark.parametrize("method", ["trackstar", "dot"])
def test_copies_are_not_chosen_twice(repeating: Tracer, method: str, task: tuple[Query, ...] | None) -> None:
    task = task if method == "trackstar" else None
    plain = repeating.trace(QUERIES, method, 6, task)
    found = repeating.trace(QUERIES, method, 6, task, diverse=True)
    assert sum(passage.id in COPIED for passage in plain[0].proponents) == 4
    assert sum(passage.id in COPIED for passage in found[0].proponents) == 1
    everything = repeating.trace(QUERIES, method, len(repeating.index), task, diverse=True)
    assert sum(passage.id in COPIED for passage in everything[0].proponents) == 1, "a copy adds nothing"
    for hit, before in zip(found, plain, strict=True):
        assert hit.proponents[0].id == before.proponents[0].id, "the first is the first as ever"
        for passage in (*hit.proponents, *hit.opponents):
            assert passage.adds is not None
            assert 0 < passage.adds <= abs(passage.score) * (1 + 1e-9)
        adds = [passage.adds or 0 for passage in hit.proponents]
        assert adds == sorted(adds, reverse=True), "what is added can only fall"
        assert all(passage.score < 0 for passage in hit.opponents)


def stands_for(hit: Hit) -> ScoredPassage:
    """The one proponent that stands for others."""
    (found,) = (passage for passage in hit.proponents if passage.duplicates)
    return found


def test_merged_copies_leave_room_for_others(repeating: Tracer) -> None:
    (hit,) = repeating.trace(QUERIES[:1], "trackstar", 6, merge_duplicates=True)
    assert len(hit.proponents) == 6
    one = stands_for(hit)
    assert sorted([one.id, *(one.duplicates or ())]) == sorted(COPIED)
    (both,) = repeating.trace(QUERIES[:1], "trackstar", 6, merge_duplicates=True, diverse=True)
    assert stands_for(both).duplicates == one.duplicates
    assert stands_for(both).adds == pytest.approx(one.score, rel=0.2)


def test_they_survive_a_result_file_and_are_shown(repeating: Tracer, tmp_path: Path) -> None:
    found = repeating.trace(QUERIES[:1], "trackstar", 5, merge_duplicates=True, diverse=True)
    found.write(tmp_path / "hits.jsonl")
    back = Attribution.read(tmp_path / "hits.jsonl")
    for ours, theirs in zip(found[0].proponents, back[0].proponents, strict=True):
        assert (ours.adds, ours.duplicates) == (theirs.adds, theirs.duplicates)
    shown = as_text(found)
    assert "adds" in shown
    assert "and 3 near-identical" in shown
    plain = repeating.trace(QUERIES[:1], "trackstar", 3)
    assert "adds" not in as_text(plain)
    assert "proponent_adds" not in next(plain.records())


def test_tokens_are_of_what_was_chosen(repeating: Tracer) -> None:
    (hit,) = repeating.trace(QUERIES[:1], "trackstar", 3, diverse=True, tokens=True)
    assert all(passage.tokens for passage in hit.proponents)
    assert len(hit.proponents) == 3
