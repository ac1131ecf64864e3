"""Exact scores without projection, against gradients that are formed and corrected whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.references.gradients import weight_gradients
from tests.runs import CORPUS, QUERIES, SlowRun, small_spec
from torch import Tensor

import proponent as pp
from proponent.attribute import exact, tokens
from proponent.attribute.exact import exact_scores
from proponent.attribute.method import Method
from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index
from proponent.errors import InputError
from proponent.gradients import kronecker
from proponent.gradients.kronecker import inverse_root
from proponent.index.run import Index
from proponent.index.whitening import ScaledIdentity
from proponent.progress import Silent

N = 12


@pytest.fixture(scope="module")
def white(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tracer:
    """A run with Kronecker moments; sampled are fewer passages than there are."""
    path = tmp_path_factory.mktemp("exact") / "run"
    spec = small_spec(model_folder, second_moment="kronecker", moment_sample=5)
    return Tracer(build_index(CORPUS, spec, path, "cpu"), "cpu")


def chunks_of(tracer: Tracer) -> list[Any]:
    return [c for e in CORPUS for c in tracer.model.encoder.chunks(e, 48)]


def gradients_of(tracer: Tracer, output: str) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Every weight gradient [o, i] of queries and of passages."""
    encoded = [tracer.model.encoder.query(query, 48) for query in QUERIES]
    make = lambda tokens, start, out: weight_gradients(tracer.model, tracer.plan.matrices, tokens, start, out)  # noqa: E731
    return (
        [make(q.tokens, q.boundary, output) for q in encoded],
        [make(c.tokens, c.start, "loss") for c in chunks_of(tracer)],
    )


def corrected(tracer: Tracer, sample: list[dict[str, Tensor]], name: str, G: Tensor) -> Tensor:
    """A gradient [o, i] of a matrix as the run corrects it."""
    matrix = next(m for m in tracer.plan.matrices if m.name == name)
    if tracer.spec.second_moment != "kronecker":
        m = tracer.moments[name]
        return m.row_scale.double()[:, None] * G.double() * m.column_scale.double()
    of = torch.stack([g[name].double() for g in sample])
    right = torch.einsum("noi,noj->ij", of, of) / len(of)
    left = [
        inverse_root(torch.einsum("noi,npi->op", part, part) / len(of), kronecker.DAMPING)
        for part in of.split(matrix.outputs, 1)
    ]
    return (
        torch.block_diag(*left) @ G.double() @ inverse_root(right, kronecker.DAMPING) * right.trace().sqrt()
    )


def expected_scores(tracer: Tracer, method: Method) -> Tensor:
    """Scores [q, n] by the definition."""
    queries, passages = gradients_of(tracer, method.output)
    sampled = tracer.index.sample
    sample = [g for g, c in zip(passages, chunks_of(tracer), strict=True) if c.id in sampled]
    means = [b.mean for b in tracer.index.whitening.blocks if isinstance(b, ScaledIdentity)]
    sides: list[list[Tensor]] = [[], []]
    for b, block in enumerate(tracer.plan.blocks):
        weight = means[b] ** -0.5 if method.hessian != "none" else 1.0
        for matrix in block.matrices:
            for side, of in zip(sides, (queries, passages), strict=True):
                whole = [corrected(tracer, sample, matrix.name, g[matrix.name]).flatten() for g in of]
                side.append(torch.stack(whole) * weight)
    Q, M = (torch.cat(side, 1) for side in sides)
    if method.unit_norm:
        Q, M = Q / Q.norm(dim=1, keepdim=True), M / M.norm(dim=1, keepdim=True)
    return Q @ M.T


@pytest.mark.parametrize("name", ["exact", "cosine", "dot", "kronecker", "cosine,output=margin"])
def test_scores_of_kronecker_corrected_gradients(white: Tracer, name: str) -> None:
    method = Method.of(name)
    found = exact_scores(white, QUERIES, method, range(N), Silent())
    expected = expected_scores(white, method)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["cosine", "dot"])
def test_scores_of_rank_one_corrected_gradients(run: SlowRun, name: str) -> None:
    tracer, method = Tracer(run.index, "cpu"), Method.of(name)
    found = exact_scores(tracer, QUERIES, method, range(N), Silent())
    expected = expected_scores(tracer, method)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(expected.abs().max()))


def test_parts_and_groups_do_not_matter(white: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    method = Method.of("exact")
    whole = exact_scores(white, QUERIES, method, range(N), Silent())
    monkeypatch.setattr(exact, "QUERY_BYTES", 1)
    monkeypatch.setattr(exact, "PASSAGES", 5)
    assert exact_scores(white, QUERIES, method, range(N), Silent()) == pytest.approx(whole, abs=1e-5)
    some = exact_scores(white, QUERIES, method, [7, 2], Silent())
    assert some == pytest.approx(whole[:, [7, 2]], abs=1e-5)


def test_projected_scores_come_near_them_as_d_grows(model_folder: Path, tmp_path: Path) -> None:
    errors = []
    for side in (2, 16):
        spec = small_spec(model_folder, second_moment="kronecker", dim=4 * side**2)
        tracer = Tracer(build_index(CORPUS, spec, tmp_path / str(side), "cpu"), "cpu")
        scan = tracer.scan(tracer.features(QUERIES), Method.of("kronecker"))
        projected = torch.cat([scan.scores(shard) for shard in tracer.index.shards()], 1)
        errors.append(
            float((projected - exact_scores(tracer, QUERIES, Method.of("exact"), range(N), Silent())).norm())
        )
    assert errors[1] < errors[0] / 2


def test_the_best_of_a_scan_are_scored_again(white: Tracer) -> None:
    scores = exact_scores(white, QUERIES, Method.of("kronecker"), range(N), Silent())
    scanned = white.trace(QUERIES, "kronecker", 5)
    found = white.trace(QUERIES, "kronecker", 3, exact_top=5)
    for own, hit, before in zip(scores, found, scanned, strict=True):
        for passages, others, sign in (
            (hit.proponents, before.proponents, 1),
            (hit.opponents, before.opponents, -1),
        ):
            assert [p.score for p in passages] == pytest.approx([float(own[p.row or 0]) for p in passages])
            best = sorted((sign * float(own[p.row or 0]) for p in others), reverse=True)[:3]
            assert [sign * p.score for p in passages] == pytest.approx(best)
    everything = white.trace(QUERIES, "kronecker", 4, exact_top=N)
    whole = white.trace(QUERIES, "exact", 4)
    assert [[p.id for p in h.proponents] for h in everything] == [[p.id for p in h.proponents] for h in whole]
    assert whole.settings["method"] == "exact"


@pytest.mark.parametrize(
    ("method", "more", "complaint"),
    [
        ("kronecker", {"exact_top": 2}, "exact-top is 2; give 3"),
        ("kronecker", {"exact_top": 13}, "exact-top is 13"),
        ("kronecker", {"exact_top": 5, "task": QUERIES}, "exact scores know no task mix"),
        ("kronecker", {"exact_top": 5, "tokens": True}, "token scores are of projected gradients"),
        ("exact", {"tokens": True}, "token scores are of projected gradients"),
        ("exact", {"task": QUERIES}, "method 'exact' has no task mix"),
    ],
)
def test_what_cannot_be_had(white: Tracer, method: str, more: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        pp.trace(white.index, QUERIES, method, 3, **more)


def test_what_a_run_cannot_give(run: SlowRun, white: Tracer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="divides by R_train, which is known of projected gradients alone"):
        pp.trace(run.index, QUERIES, "exact", 3)
    with pytest.raises(InputError, match="divides by R_train"):
        pp.trace(run.index, QUERIES, "trackstar", 3, exact_top=5)
    with pytest.raises(InputError, match="has no index of scores to choose from"):
        pp.select(white.index, QUERIES, 2, "exact")
    older = Index(white.index.folder.path)
    del older.manifest["made_with"]["sample"]
    with pytest.raises(InputError, match="does not say what its second moments are of"):
        pp.trace(older, QUERIES, "exact", 3)


def test_a_row_whose_tokens_are_lost(white: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first row as well as any other."""
    for lost in (0, 3):
        monkeypatch.setattr(tokens, "_spelled", lambda t, rows, lost=lost: {1: ((), []), 3 - lost: ((), [])})
        with pytest.raises(InputError, match="are not known any more"):
            tokens.indexed_chunks(white, [0, 1, 3])
