"""Token scores: every token's contribution by autograd, and sums that are the inner products."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.models import make_model
from tests.references.gradients import exact_feature
from tests.runs import CORPUS, QUERIES, SlowRun, small_spec

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.attribute.method import METHODS, Method
from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example, Query
from proponent.errors import InputError
from proponent.gradients.backprop import Batch, backpropagate
from proponent.gradients.sweep import captured
from proponent.index.scores import QueryTerms

K = 12
WITH_V = [
    *("cosine", "dot", "trackstar", "trackstar,unit_norm=no", "trackstar,hessian=train"),
    *("trackstar,hessian=none", "cosine,output=margin", "trackstar,output=logit"),
]


def passages_of(hit: Hit) -> tuple[ScoredPassage, ...]:
    return (*hit.proponents, *hit.opponents)


def inner_products(
    tracer: Tracer, slow: SlowRun, method: Method, task: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """v · φ and ‖v‖‖φ‖ [q, n] of exact features of all chunks, in corpus order.

    A score to which large terms add up to little is known to a share of the latter.
    """
    mix = tracer.task_mix(QUERIES, 0.9, method.output) if task else None
    inner = method.inner_product(mix)
    terms = QueryTerms(tracer.features(QUERIES, method.output), tracer.index.whitening, inner.subspace)
    v, phi = terms.directions(inner), slow.passages
    return v @ phi.T, v.norm(dim=1)[:, None] * phi.norm(dim=1)


@pytest.mark.parametrize("task", [False, True])
@pytest.mark.parametrize("name", WITH_V)
def test_tokens_add_up_to_the_inner_product(run: SlowRun, name: str, task: bool) -> None:
    method = Method.of(name)
    if task and method.hessian != "mixed":
        pytest.skip("this method has no task mix")
    tracer = Tracer(run.index, "cpu")
    hits = tracer.trace(QUERIES, method, K, QUERIES if task else None, 0.9 if task else "auto", tokens=True)
    expected, sizes = inner_products(tracer, run, method, task)
    for q, hit in enumerate(hits):
        for passage in passages_of(hit):
            assert passage.tokens is not None
            assert passage.target_tokens is not None
            n = run.chunks.index(passage.id)
            score, rounding = float(expected[q, n]), 1e-6 * float(sizes[q, n])
            for shares in (passage.tokens, passage.target_tokens):
                assert sum(share for _, share in shares) == pytest.approx(score, rel=1e-4, abs=rounding)
            assert "".join(text for text, _ in passage.tokens) == passage.text


@pytest.mark.parametrize("name", ["trak", "dot", "cosine"])
def test_without_second_moments(plain_run: SlowRun, name: str) -> None:
    tracer, method = Tracer(plain_run.index, "cpu"), METHODS[name]
    expected, sizes = inner_products(tracer, plain_run, method, task=False)
    for q, hit in enumerate(tracer.trace(QUERIES, method, K, tokens=True)):
        for passage in passages_of(hit):
            n = plain_run.chunks.index(passage.id)
            score, rounding = float(expected[q, n]), 1e-6 * float(sizes[q, n])
            total = sum(share for _, share in passage.tokens or ())
            assert total == pytest.approx(score, rel=1e-4, abs=rounding)


def test_the_sum_is_the_score_without_norms(run: SlowRun) -> None:
    hits = Tracer(run.index, "cpu").trace(QUERIES, "trackstar,unit_norm=no", K, tokens=True)
    for hit in hits:
        for passage in passages_of(hit):
            total = sum(share for _, share in passage.tokens or ())
            assert total == pytest.approx(passage.score, rel=5e-3, abs=5e-3)  # rows are stored in float16


class _Slow:
    """A capture that keeps the inputs and gradients of every matrix, one row at a time."""

    def __init__(self) -> None:
        self.x: dict[str, torch.Tensor] = {}
        self.d: dict[str, dict[int, torch.Tensor]] = {}

    def forward(self, matrix, x) -> None:  # type: ignore[no-untyped-def]
        self.x[matrix.name] = x

    def backward(self, matrix, slot, d) -> None:  # type: ignore[no-untyped-def]
        self.d.setdefault(matrix.name, {})[slot] = d


def test_each_token_is_the_gradient_of_its_position_alone(run: SlowRun) -> None:
    """Against ``d_t x_tᵀ`` formed for one position, corrected and projected as a gradient of its own."""
    tracer = Tracer(run.index, "cpu")
    (hit,) = tracer.trace(QUERIES[:1], "dot", K, tokens=True)
    v = tracer.features(QUERIES[:1])[0].double()
    moments = {
        name: torch.outer(m.rows.double(), m.columns.double()) / m.rows.double().sum()
        for name, m in tracer.moments.items()
    }
    chunks = {c.id: c for e in CORPUS for c in tracer.model.encoder.chunks(e, 48)}
    for passage in hit.proponents:
        chunk, slow = chunks[passage.id], _Slow()
        with captured(tracer.model, tracer.plan.matrices, [slow], 1):
            backpropagate(tracer.model, Batch.of([chunk.tokens], [chunk.start]))
        expected = []
        for t in range(len(chunk.tokens) - 1):
            gradients = {
                m.name: torch.outer(
                    torch.cat([slow.d[m.name][slot][0, t] for slot in range(len(m.modules))]),
                    slow.x[m.name][0, t],
                )
                for m in tracer.plan.matrices
            }
            seed = int(run.index.spec["seed"])
            expected.append(float(exact_feature(gradients, tracer.plan, moments, seed).double() @ v))
        got = [share for _, share in passage.tokens or ()]
        assert got == pytest.approx([*expected, 0.0], rel=1e-3, abs=1e-5 * max(map(abs, expected)))


def test_a_target_token_is_the_query_of_its_loss_alone(run: SlowRun) -> None:
    """A target of one token has one share; those of a longer one are of queries that end with each token."""
    tracer = Tracer(run.index, "cpu")
    (hit,) = tracer.trace([Query("q", "The symbol of gold is", "Au")], "cosine", 3, tokens=True)
    texts, features = tracer.target_features(hit.query)
    assert "".join(texts) == " Au"
    encoded = tracer.model.encoder.query(hit.query, 48)
    for n, place in enumerate(range(encoded.boundary, len(encoded.tokens))):
        alone = run._feature(encoded.tokens[: place + 1], place, "loss")
        torch.testing.assert_close(features[n], alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))
    assert [text for text, _ in hit.proponents[0].target_tokens or ()] == texts


def test_scores_do_not_depend_on_what_else_was_asked(run: SlowRun) -> None:
    tracer = Tracer(run.index, "cpu")
    together = tracer.trace(QUERIES, "trackstar", K, tokens=True)
    for query, hit in zip(QUERIES, together, strict=True):
        (alone,) = tracer.trace([query], "trackstar", K, tokens=True)
        for one, other in zip(alone.proponents, hit.proponents, strict=True):
            assert [t for t, _ in one.tokens or ()] == [t for t, _ in other.tokens or ()]
            values = [share for _, share in one.tokens or ()]
            largest = max(map(abs, values))
            assert values == pytest.approx([share for _, share in other.tokens or ()], abs=1e-4 * largest)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_other_architectures_and_characters_of_several_bytes(family: str, tmp_path: Path) -> None:
    corpus = Corpus.of(
        [Example("a", "Zürich — 東京 is far.", "a"), Example("b", "Łódź lies in Poland.", "b")]
    )
    model = make_model(tmp_path / "model", family)
    index = build_index(corpus, small_spec(model), tmp_path / "run", "cpu")
    tracer = Tracer(index, "cpu")
    (hit,) = tracer.trace([Query("q", "The capital is", "東京 Ü")], "dot", 2, tokens=True)
    for passage in passages_of(hit):
        assert "".join(text for text, _ in passage.tokens or ()) == passage.text
        assert "".join(text for text, _ in passage.target_tokens or ()).strip() == "東京 Ü"
        assert all(
            "\ufffd" not in text for text, _ in (*(passage.tokens or ()), *(passage.target_tokens or ()))
        )
        total = sum(share for _, share in passage.tokens or ())
        assert total == pytest.approx(passage.score, rel=5e-3, abs=5e-3)


def test_a_passage_whose_chunks_were_not_all_kept_has_no_token_scores(
    run: SlowRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracer = Tracer(run.index, "cpu")
    monkeypatch.setattr(
        "proponent.attribute.tokens._whole", lambda *_: "another text, of a part that is left"
    )
    (hit,) = tracer.trace(QUERIES[:1], "dot", K, tokens=True)
    told = {passage.id: passage.tokens is not None for passage in hit.proponents}
    assert not any(told[id] for id in ("long#0", "long#1", "long#2"))
    assert all(told[id] for id in told if not id.startswith("long"))


def test_result_files_keep_them(run: SlowRun, tmp_path: Path) -> None:
    hits = Tracer(run.index, "cpu").trace(QUERIES, "trackstar", 3, tokens=True)
    hits.write(tmp_path / "hits.jsonl")
    record = json.loads((tmp_path / "hits.jsonl").read_text().splitlines()[0])
    assert "".join(text for text, _ in record["proponent_tokens"][0]) == record["proponents"][0]
    again = Attribution.read(tmp_path / "hits.jsonl")
    for one, other in zip(again, hits, strict=True):
        assert [p.tokens for p in passages_of(one)] == [p.tokens for p in passages_of(other)]
        assert [p.target_tokens for p in passages_of(one)] == [p.target_tokens for p in passages_of(other)]


@pytest.mark.parametrize("bad", [[1], [[["a"]]], [[["a", "b"]]], [[[1, 2.0]]], ["ab"], [[], []]])
def test_bad_token_scores_are_refused(bad: object, tmp_path: Path) -> None:
    record = {
        "example_id": "q",
        "inputs_plaintext": "a",
        "targets_plaintext": "b",
        "proponents": ["c"],
        "proponent_ids": ["c"],
        "proponent_tokens": bad,
    }
    (tmp_path / "hits.jsonl").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"hits\.jsonl:1: "):
        Attribution.read(tmp_path / "hits.jsonl")
