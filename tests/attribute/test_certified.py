"""Certified traces of a compact run against traces of its full run, and what cannot be had."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.runs import CORPUS, QUERIES, SlowRun, small_spec

import proponent as pp
from proponent.attribute.attribution import Attribution
from proponent.attribute.certificate import Certificate
from proponent.attribute.tracing import Tracer
from proponent.errors import InputError

K = 4


@pytest.fixture(scope="module")
def full(run: SlowRun) -> Tracer:
    return Tracer(run.index, "cpu")


@pytest.fixture(scope="module")
def codes(run: SlowRun, tmp_path_factory: pytest.TempPathFactory) -> Tracer:
    path = tmp_path_factory.mktemp("certified") / "codes"
    return Tracer(pp.compact(run.index.folder.path, path, "128B"), "cpu")


@pytest.mark.parametrize("certified", ["sure", 0.99])
@pytest.mark.parametrize("method", ["trackstar", "cosine", "dot"])
def test_it_finds_what_a_trace_of_the_full_run_finds(
    full: Tracer, codes: Tracer, method: str, certified: str | float
) -> None:
    expected = full.trace(QUERIES, method, K)
    found = codes.trace(QUERIES, method, K, certified=certified)
    for one, other in zip(found, expected, strict=True):
        for side in ("proponents", "opponents"):
            assert [p.id for p in getattr(one, side)] == [p.id for p in getattr(other, side)]
            scores = [p.score for p in getattr(other, side)]
            assert [p.score for p in getattr(one, side)] == pytest.approx(scores, rel=1e-5, abs=1e-7)
        assert one.certificate is not None
        assert (one.certificate.proponents, one.certificate.opponents) == (K, K)
        assert one.certificate.rows == one.certificate.read == len(full.index)
    assert found.settings["run"] == str(codes.index.folder.path)


def test_a_result_file_and_the_table_keep_what_is_certain(codes: Tracer, tmp_path: Path) -> None:
    found = codes.trace(QUERIES, k=2, certified=0.9)
    assert "Certified, with probability 0.9: a scan of the full run finds the same" in repr(found)
    found.write(tmp_path / "hits.jsonl")
    again = Attribution.read(tmp_path / "hits.jsonl")
    assert [hit.certificate for hit in again] == [hit.certificate for hit in found]
    again.write(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "hits.jsonl").read_bytes()
    # a new trace of those queries has no certificate left of the old one
    queries = pp.Queries.read(tmp_path / "hits.jsonl")
    assert "certificate" not in next(codes.trace(queries, k=2).records())


def test_stopped_early_it_says_so_in_words() -> None:
    whole = Certificate(1.0, 5000, 64, 3, 10, 0.03, -0.01)
    assert whole.sentence(10, 10) == (
        "Stopped early: the first 3 proponents and 10 opponents are certain, and no other passage scores "
        "above +0.0300; 64 of 5,000 rows were read."
    )
    assert "above +0.0300 or below -0.0100" in replace(whole, opponents=9, confidence=0.9).sentence(10, 10)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"read": "many"}, "counts"),
        ({"above": "x"}, "must be numbers"),
        ({"more": 1}, "not what a certified trace writes"),
        ("sure", "not what a certified trace writes"),
    ],
)
def test_a_damaged_certificate_is_refused(codes: Tracer, tmp_path: Path, change: object, words: str) -> None:
    record = next(codes.trace(QUERIES, k=2, certified="sure").records())
    record["certificate"] = {**record["certificate"], **change} if isinstance(change, dict) else change
    (tmp_path / "hits.jsonl").write_text(json.dumps(record))
    with pytest.raises(InputError, match=rf"hits\.jsonl:1.*{words}"):
        Attribution.read(tmp_path / "hits.jsonl")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"certified": "surely"}, "give 'sure'"),
        ({"certified": 0.2}, "give 'sure'"),
        ({"certified": float("nan")}, "give 'sure'"),
        ({"certified": "sure", "within": 0.0}, "more than 0"),
        ({"within": 3.0}, "add --certified"),
        ({"certified": "sure", "task": QUERIES}, "no task mix"),
        ({"certified": "sure", "diverse": True}, "leave out diverse"),
        ({"certified": "sure", "merge_duplicates": True}, "leave out merge-duplicates"),
        ({"certified": "sure", "exact_top": 5}, "leave out exact-top"),
        ({"certified": "sure", "ray": "local"}, "leave out --ray"),
    ],
)
def test_what_cannot_be_had_is_refused(codes: Tracer, asked: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        pp.trace(codes.index, QUERIES, k=2, device="cpu", **asked)  # type: ignore[arg-type]


def test_full_runs_and_compact_ones_without_a_full_one_are_refused(
    run: SlowRun, model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is a full run"):
        pp.trace(run.index, QUERIES, k=2, device="cpu", certified="sure")
    spec = small_spec(model_folder, second_moment="kronecker", damping="oas", size=64)
    alone = pp.build_index(CORPUS, spec, tmp_path / "alone", "cpu")
    with pytest.raises(InputError, match="was not made of a full run"):
        pp.trace(alone, QUERIES, k=2, device="cpu", certified="sure")
    assert len(pp.trace(alone, QUERIES, k=2, device="cpu")) == len(QUERIES)
