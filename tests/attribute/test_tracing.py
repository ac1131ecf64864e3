"""Traces against the slow twin, and every way in which a trace can be refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tests.models import byte_tokenizer, make_model
from tests.runs import CHUNKS, QUERIES, TEXTS, SlowRun, model_without_letter, small_spec

from proponent.attribute import sharded, tracing
from proponent.attribute.attribution import Attribution
from proponent.attribute.method import Method
from proponent.attribute.tracing import Tracer, trace
from proponent.build.indexing import build_index
from proponent.corpus import Corpus, Example, Queries, Query
from proponent.errors import InputError
from proponent.index.run import Index
from proponent.index.search import Scan

TASK = (*QUERIES, Query("t", "The symbol of iron is", "Fe"), Query("u", "The capital of Peru is", "Lima"))
ALL = len(CHUNKS)


@pytest.fixture(scope="module")
def tracer(run: SlowRun) -> Tracer:
    return Tracer(run.index, "cpu")


def dense(hits: Attribution) -> torch.Tensor:
    """Scores [q, n] in corpus order, of a trace with k = all."""
    found = [{p.id: p.score for p in hit.proponents} for hit in hits]
    return torch.tensor([[row[chunk] for chunk in CHUNKS] for row in found], dtype=torch.float64)


def assert_agree(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Two bytes a coordinate leave about three digits of the largest score."""
    assert (found - expected).abs().max() < 2e-3 * expected.abs().max()


# --- what a trace finds -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [
        "trackstar",
        "cosine",
        "dot",
        "trackstar,unit_norm=no",
        "trackstar,hessian=none,output=margin",
        "dot,hessian=train,output=logit",
    ],
)
def test_scores_are_those_of_the_definition(method: str, run: SlowRun, tracer: Tracer) -> None:
    hits = tracer.trace(QUERIES, method, k=ALL)
    assert run.chunks == tuple(CHUNKS)
    assert_agree(dense(hits), run.scores(QUERIES, Method.of(method)))
    assert hits.settings == {"method": method, "mix": None, "run": str(run.index.folder.path)}


@pytest.mark.parametrize("method", ["trak", "dot", "cosine"])
def test_scores_without_second_moments_are_those_of_the_definition(method: str, plain_run: SlowRun) -> None:
    hits = trace(plain_run.index, QUERIES, method, k=ALL, device="cpu")
    assert_agree(dense(hits), plain_run.scores(QUERIES, Method.of(method)))


@pytest.mark.parametrize("mix", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("method", ["trackstar", "trackstar,unit_norm=no", "trackstar,output=logit"])
def test_scores_with_a_task_are_those_of_the_mixed_r(
    method: str, mix: float, run: SlowRun, tracer: Tracer
) -> None:
    hits = tracer.trace(QUERIES, method, k=ALL, task=TASK, mix=mix)
    assert_agree(dense(hits), run.scores(QUERIES, Method.of(method), TASK, mix))
    assert hits.settings["mix"] == mix


def test_an_automatic_mix_is_told_and_used(run: SlowRun, tracer: Tracer) -> None:
    hits = tracer.trace(QUERIES, k=ALL, task=TASK)
    mix = hits.settings["mix"]
    # 64 dimensions: the largest eigenvalues cross (1000 of 65,536 is 1 of 64)
    width = run.plan.block_width
    tops = []
    for values, damping in ((run.query_features(TASK, "loss"), 0.0), (run.passages, 0.5)):
        blocks = [part.T @ part / len(part) for part in values.split(width, 1)]
        tops.append(max(float(torch.linalg.eigvalsh(R)[-1] + damping * R.diagonal().mean()) for R in blocks))
    assert mix == pytest.approx(tops[1] / (tops[0] + tops[1]), rel=2e-3)
    assert 0.01 < mix < 0.999
    assert_agree(dense(hits), run.scores(QUERIES, Method.of("trackstar"), TASK, mix))


def test_the_methods_differ(run: SlowRun, plain_run: SlowRun) -> None:
    """Otherwise the tests above could not tell one from another."""
    trackstar = Method.of("trackstar")
    scores = [
        run.scores(QUERIES, trackstar),
        run.scores(QUERIES, trackstar, TASK, 0.5),
        run.scores(QUERIES, trackstar, TASK, 0.9),
        run.scores(QUERIES, Method.of("cosine")),
        run.scores(QUERIES, Method.of("cosine,output=logit")),
        plain_run.scores(QUERIES, Method.of("cosine")),
    ]
    for n, one in enumerate(scores):
        for other in scores[:n]:
            assert (one - other).abs().max() > 0.02


def test_proponents_are_the_highest_and_opponents_the_lowest(run: SlowRun, tracer: Tracer) -> None:
    everything = dense(tracer.trace(QUERIES, k=ALL))
    hits = tracer.trace(QUERIES, k=4)
    for hit, row in zip(hits, everything, strict=True):
        order = sorted(range(ALL), key=lambda n: -float(row[n]))
        assert [p.id for p in hit.proponents] == [CHUNKS[n] for n in order[:4]]
        assert [p.id for p in hit.opponents] == [CHUNKS[n] for n in order[:-5:-1]]
        assert [p.score for p in hit.opponents] == sorted(float(row[n]) for n in order[-4:])
        for passage in (*hit.proponents, *hit.opponents):
            assert passage.source == passage.id.partition("#")[0]
            assert passage.text in TEXTS[passage.source]


def test_a_passage_that_says_what_the_query_says_is_its_top_proponent(run: SlowRun, tracer: Tracer) -> None:
    asked = [Query(id, *TEXTS[id].split(" ", 1)) for id in ("rome", "cats", "gold", "lima")]
    hits = tracer.trace(asked, k=1)
    assert [hit.proponents[0].id for hit in hits] == [query.id for query in asked]


def test_many_queries_share_a_scan_and_its_size_changes_nothing(
    tracer: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tracer.trace(TASK, k=ALL, task=TASK, mix=0.5)
    scans: list[int] = []
    search = sharded.search

    def noted(pieces: object, scan: Scan, k: int) -> tracing.Found:
        scans.append(len(scan))
        return search(pieces, scan, k)  # type: ignore[arg-type]

    monkeypatch.setattr(sharded, "search", noted)
    monkeypatch.setattr(tracing, "SCAN_QUERIES", 2)
    parts = tracer.trace(TASK, k=ALL, task=TASK, mix=0.5)
    assert scans == [2, 2, 1]
    assert [hit.query for hit in parts] == list(TASK)
    torch.testing.assert_close(dense(parts), dense(whole), rtol=0, atol=1e-5)


def test_another_trace_of_the_same_queries_needs_no_pass_of_the_model(
    run: SlowRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "REMEMBERED", len(QUERIES))
    tracer = Tracer(run.index, "cpu")
    passes: list[int] = []
    extract = tracer.extract

    def counted(rows: Sequence[Sequence[int]], starts: Sequence[int], output: str) -> torch.Tensor:
        passes.append(len(rows))
        return extract(rows, starts, output)

    monkeypatch.setattr(tracer, "extract", counted)
    tracer.trace(QUERIES, k=ALL)
    tracer.trace(QUERIES, "cosine", k=1)
    tracer.redamped(2.0).trace(QUERIES, k=1)
    tracer.trace(QUERIES, k=1, task=QUERIES[:2], mix=0.3)
    assert passes == [len(QUERIES)]
    assert torch.equal(tracer.features((*QUERIES, *QUERIES)), tracer.features(QUERIES).repeat(2, 1))
    tracer.trace(QUERIES, "trackstar,output=margin", k=1)
    assert passes == [len(QUERIES)] * 2, "another output function is another feature"
    assert torch.equal(tracer.features(QUERIES), Tracer(run.index, "cpu").features(QUERIES))
    assert passes == [len(QUERIES)] * 3, "the oldest are forgotten"


def test_passages_may_be_compared_few_at_a_time(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dense(tracer.trace(QUERIES, k=ALL, task=TASK, mix=0.9))
    monkeypatch.setattr("proponent.index.scores.TOGETHER", 5)
    torch.testing.assert_close(
        dense(tracer.trace(QUERIES, k=ALL, task=TASK, mix=0.9)), whole, rtol=0, atol=1e-5
    )


def test_a_run_may_be_given_by_its_path(run: SlowRun, tracer: Tracer) -> None:
    hits = trace(str(run.index.folder.path), QUERIES[:1], k=2, device="cpu")
    assert hits[0].proponents == tracer.trace(QUERIES[:1], k=2)[0].proponents


# --- result files -----------------------------------------------------------------------------------


def test_result_files_have_the_papers_fields(tracer: Tracer, tmp_path: Path) -> None:
    fact = Query(
        "f1",
        "The capital of France is",
        "Paris",
        {"fact_id": "f1", "relation": "capital", "trex_sentences": ["paris", "long", 3]},
    )
    other = Query("q", "Cats", "sleep", {"query_set": "animals"})
    hits = tracer.trace([fact, other], k=ALL)
    hits.write(tmp_path / "new" / "hits.jsonl")
    first, second = map(json.loads, (tmp_path / "new" / "hits.jsonl").read_text().splitlines())
    proponents, opponents = hits[0].proponents, hits[0].opponents
    assert first == {
        "example_id": "f1",
        "query_set": "facts",
        "inputs_plaintext": "The capital of France is",
        "targets_plaintext": "Paris",
        "proponents": [p.text for p in proponents],
        "proponent_ids": [p.id for p in proponents],
        "proponent_scores": [p.score for p in proponents],
        "proponent_sources": [p.source for p in proponents],
        "opponents": [p.text for p in opponents],
        "opponent_ids": [p.id for p in opponents],
        "opponent_scores": [p.score for p in opponents],
        "opponent_sources": [p.source for p in opponents],
        "fact_id": "f1",
        "relation": "capital",
        "proponent_correct": [p.id == "paris" or p.id.startswith("long#") for p in proponents],
        "method": "trackstar",
        "mix": None,
        "run": str(tracer.index.folder.path),
    }
    assert sum(first["proponent_correct"]) == 4
    assert second["query_set"] == "animals"
    assert "proponent_correct" not in second
    assert "fact_id" not in second


def test_a_result_file_can_be_traced_again(tracer: Tracer, tmp_path: Path) -> None:
    hits = tracer.trace(QUERIES, k=3)
    hits.write(tmp_path / "hits.jsonl")
    again = Queries.read(tmp_path / "hits.jsonl")
    assert [(q.id, q.prompt, q.target) for q in again] == [(q.id, q.prompt, q.target) for q in QUERIES]
    assert not [name for query in again for name in query.fields if "ponent" in name]
    assert [hit.proponents for hit in tracer.trace(again, k=3)] == [hit.proponents for hit in hits]


def test_hits_are_a_sequence_in_the_order_of_the_queries(tracer: Tracer) -> None:
    hits = tracer.trace(QUERIES, k=1)
    assert len(hits) == 3
    assert [hit.query for hit in hits] == list(QUERIES)
    assert hits[-1] is hits.hits[2]
    assert list(hits[1:]) == list(hits.hits[1:])


# --- refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, -1, ALL + 1])
def test_k_must_be_of_the_corpus(k: int, tracer: Tracer) -> None:
    with pytest.raises(InputError, match=f"k is {k}; this run holds {ALL} passages, give 1 to that many"):
        tracer.trace(QUERIES, k=k)


@pytest.mark.parametrize("mix", [1, 1.5, -0.1, float("nan"), float("inf"), "half", ""])
def test_the_mix_must_be_in_range(mix: float | str, tracer: Tracer) -> None:
    with pytest.raises(InputError, match="give 'auto' or a number from 0 up to, not including, 1"):
        tracer.trace(QUERIES, k=1, task=TASK, mix=mix)


def test_a_mix_may_be_text(tracer: Tracer) -> None:
    hits = tracer.trace(QUERIES, k=1, task=TASK, mix="0.25")
    assert hits.settings["mix"] == 0.25


@pytest.mark.parametrize("method", ["cosine", "dot", "trackstar,hessian=train"])
def test_a_task_needs_a_method_with_a_mix(method: str, tracer: Tracer) -> None:
    with pytest.raises(InputError, match=f"method '{method}' has no task mix; leave out the task"):
        tracer.trace(QUERIES, method, k=1, task=TASK)


def test_a_mix_needs_a_task(tracer: Tracer) -> None:
    with pytest.raises(InputError, match=r"a mix of 0\.9 needs a task"):
        tracer.trace(QUERIES, k=1, mix=0.9)


def test_queries_and_task_must_hold_some(tracer: Tracer) -> None:
    with pytest.raises(InputError, match="no queries to trace"):
        tracer.trace([], k=1)
    with pytest.raises(InputError, match="the task holds no queries"):
        tracer.trace(QUERIES, k=1, task=[])


def test_a_method_must_suit_the_runs_second_moments(tracer: Tracer, plain_run: SlowRun) -> None:
    with pytest.raises(InputError, match="does not fit a run with rank-one second moments"):
        tracer.trace(QUERIES, "trak", k=1)
    with pytest.raises(InputError, match="does not fit a run without second-moment correction"):
        trace(plain_run.index, QUERIES, "trackstar", k=1, device="cpu")


def test_a_target_that_would_be_cut_off_is_refused(tracer: Tracer) -> None:
    query = Query("q", "x" * 30, "y" * 20, place="queries.jsonl:7")
    with pytest.raises(
        InputError, match=r"queries.jsonl:7: its target would be cut off: the query is 52 tokens"
    ):
        tracer.trace([query], k=1)


def test_a_query_without_a_finite_gradient_is_named(model_folder: Path, tmp_path: Path) -> None:
    broken = model_without_letter(model_folder, tmp_path / "model", "z")
    made = build_index(Corpus.of(["one", "two"]), small_spec(broken), tmp_path / "run", "cpu")
    queries = [Query("sound", "a", "b"), Query("broken", "a jazz", "band", place="queries.jsonl:2")]
    message = "queries.jsonl:2: the model gives no finite gradient for query 'broken'"
    with pytest.raises(InputError, match=message):
        trace(made, queries, k=1, device="cpu")
    assert len(trace(made, queries[:1], k=1, device="cpu")) == 1
    with pytest.raises(InputError, match=message):
        trace(made, queries[:1], k=1, task=queries, device="cpu")


def test_another_model_or_tokenizer_is_refused(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    build_index(Corpus.of([Example("a", "one", "")]), small_spec(model), tmp_path / "run", "cpu")
    assert len(trace(tmp_path / "run", QUERIES, k=1, device="cpu")) == 3
    byte_tokenizer(with_bos=False).save_pretrained(model)
    with pytest.raises(InputError, match=r"run: the tokenizer in '.*model' is not the one that this run was"):
        Tracer(tmp_path / "run", "cpu")
    make_model(model, seed=1)
    with pytest.raises(InputError, match=r"run: the model in '.*model' is not the one that this run was"):
        Tracer(tmp_path / "run", "cpu")


def test_a_model_that_is_gone_is_named(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    build_index(Corpus.of(["one"]), small_spec(model), tmp_path / "run", "cpu")
    model.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"model folder '.*model' does not exist"):
        Tracer(tmp_path / "run", "cpu")


def test_a_run_that_was_moved_can_be_traced(tmp_path: Path, model_folder: Path) -> None:
    build_index(Corpus.of(["one", "two"]), small_spec(model_folder), tmp_path / "run", "cpu")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert len(trace(tmp_path / "moved", QUERIES, k=2, device="cpu")) == 3


def test_a_damaged_run_is_refused_when_it_is_read(tmp_path: Path, model_folder: Path) -> None:
    made = build_index(Corpus.of(["one", "two"]), small_spec(model_folder), tmp_path / "run", "cpu")
    shard = made.folder.index(0)
    content = bytearray(shard.read_bytes())
    content[-3] ^= 4
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"index/00000.safetensors: damaged"):
        trace(Index(tmp_path / "run"), QUERIES, k=1, device="cpu")
