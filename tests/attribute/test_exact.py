"""Exact scores without projection, against gradients that are formed and corrected whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.references.gradients import weight_gradients
from tests.runs import CHUNKS, CORPUS, QUERIES, SlowRun, small_spec
from torch import Tensor

import proponent as pp
from proponent.attribute import exact, tokens, unprojected
from proponent.attribute.exact import exact_scores
from proponent.attribute.method import Method
from proponent.attribute.questions import Task
from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index
from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.gradients import kronecker
from proponent.gradients.kronecker import inverse_root
from proponent.index.run import Index
from proponent.index.whitening import ScaledIdentity
from proponent.progress import Silent

N = 12
OTHER = Query("other", "The symbol of iron is", "Fe")


@pytest.fixture(scope="module")
def white(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tracer:
    """A run with Kronecker moments; sampled are fewer passages than there are."""
    path = tmp_path_factory.mktemp("exact") / "run"
    spec = small_spec(model_folder, second_moment="kronecker", moment_sample=5)
    return Tracer(build_index(CORPUS, spec, path, "cpu"), "cpu")


def chunks_of(tracer: Tracer) -> list[Any]:
    return [c for e in CORPUS for c in tracer.model.encoder.chunks(e, 48)]


def gradients_of(
    tracer: Tracer, output: str, queries: Sequence[Query] = QUERIES
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Every weight gradient [o, i] of queries and of passages."""
    encoded = [tracer.model.encoder.query(query, 48) for query in queries]
    make = lambda tokens, start, out: weight_gradients(tracer.model, tracer.plan.matrices, tokens, start, out)  # noqa: E731
    return (
        [make(q.tokens, q.boundary, output) for q in encoded],
        [make(c.tokens, c.start, "loss") for c in chunks_of(tracer)],
    )


def corrected(
    tracer: Tracer, sample: list[dict[str, Tensor]], name: str, G: Tensor, factored: bool = False
) -> Tensor:
    """A gradient [o, i] of a matrix as the run corrects it, or by Kronecker factors of its sample."""
    matrix = next(m for m in tracer.plan.matrices if m.name == name)
    if tracer.spec.second_moment != "kronecker" and not factored:
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


def expected_scores(tracer: Tracer, method: Method, task: Sequence[Query] = (), mix: float = 0.0) -> Tensor:
    """Scores [q, n] by the definition, with R' formed and solved in every block."""
    queries, passages = gradients_of(tracer, method.output)
    shared, _ = gradients_of(tracer, method.output, task)
    sampled = tracer.index.sample
    sample = [g for g, c in zip(passages, chunks_of(tracer), strict=True) if c.id in sampled]
    ids = [chunk.id for chunk in chunks_of(tracer)]
    spread = [n * N // len(sampled) for n in range(len(sampled))]
    others = [n for n in spread if ids[n] not in sampled] or spread
    divided = method.hessian != "none"
    factored = divided and not tracer.index.white
    inner = torch.zeros(len(queries), len(passages), dtype=torch.float64)
    norms = torch.zeros(2, *inner.shape, dtype=torch.float64)
    for b, block in enumerate(tracer.plan.blocks):
        Q, M, T, S = (
            torch.stack([whole_vector(tracer, sample, block, g, factored) for g in gradients])
            for gradients in (queries, passages, shared or queries, [passages[n] for n in others])
        )
        if divided:
            means = [w.mean for w in tracer.index.whitening.blocks if isinstance(w, ScaledIdentity)]
            mean = means[b] if means else float(S.square().sum(1).mean()) / tracer.plan.block_width
            Q, M, T = (side / mean**0.5 for side in (Q, M, T))
        basis, _ = torch.linalg.qr(torch.cat([Q, M, T]).T)  # R' does not lead out of it
        Q, M, T = (side @ basis for side in (Q, M, T))
        R = (1 - mix) * torch.eye(Q.shape[1], dtype=torch.float64) + mix * T.T @ T / len(T)
        left, right = torch.linalg.solve(R, Q.T), torch.linalg.solve(R, M.T)
        inner = inner + Q @ right
        norms = norms + torch.stack(
            torch.broadcast_tensors((Q.T * left).sum(0)[:, None], (M.T * right).sum(0))
        )
    return inner / norms.prod(0).sqrt() if method.unit_norm else inner


def whole_vector(
    tracer: Tracer, sample: list[dict[str, Tensor]], block: Any, gradient: dict[str, Tensor], factored: bool
) -> Tensor:
    """A block's corrected gradients end to end."""
    parts = [corrected(tracer, sample, m.name, gradient[m.name], factored) for m in block.matrices]
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("name", ["exact", "cosine", "dot", "kronecker", "cosine,output=margin"])
def test_scores_of_kronecker_corrected_gradients(white: Tracer, name: str) -> None:
    method = Method.of(name)
    found = exact_scores(white, QUERIES, method, range(N), Silent())
    expected = expected_scores(white, method)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("mix", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["exact", "kronecker,unit_norm=no"])
def test_scores_under_a_task_mix(white: Tracer, name: str, mix: float) -> None:
    """The task shares a query with those asked, and has one of its own twice."""
    method, task = Method.of(name), (QUERIES[1], OTHER, OTHER)
    found = exact_scores(white, QUERIES, method, range(N), Silent(), Task(task, white.task_mix(task, mix)))
    expected = expected_scores(white, method, task, mix)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["exact", "trackstar", "trackstar,unit_norm=no"])
def test_runs_with_r_train_are_corrected_by_factors(run: SlowRun, name: str) -> None:
    tracer, method = Tracer(run.index, "cpu"), Method.of(name)
    for task, mix in (((), 0.0), (QUERIES[:2], 0.9)):
        mixed = Task(task, tracer.task_mix(task, mix)) if task else None
        found = exact_scores(tracer, QUERIES, method, range(N), Silent(), mixed)
        expected = expected_scores(tracer, method, task, mix)
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(expected.abs().max()))


def test_factors_are_scaled_by_passages_that_they_are_not_of(model_folder: Path, tmp_path: Path) -> None:
    index = build_index(CORPUS, small_spec(model_folder, moment_sample=5), tmp_path / "run", "cpu")
    tracer, method = Tracer(index, "cpu"), Method.of("trackstar")
    assert len(index.sample) == 5
    chosen = [CHUNKS[n] for n in unprojected._others(index)]
    assert len(chosen) > 1
    assert not set(chosen) & set(index.sample)
    mixed = Task(QUERIES[:2], tracer.task_mix(QUERIES[:2], 0.9))
    found = exact_scores(tracer, QUERIES, method, range(N), Silent(), mixed)
    expected = expected_scores(tracer, method, QUERIES[:2], 0.9)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["cosine", "dot"])
def test_scores_of_rank_one_corrected_gradients(run: SlowRun, name: str) -> None:
    tracer, method = Tracer(run.index, "cpu"), Method.of(name)
    found = exact_scores(tracer, QUERIES, method, range(N), Silent())
    expected = expected_scores(tracer, method)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(expected.abs().max()))


def test_a_method_without_a_mix_takes_no_task(white: Tracer) -> None:
    method, task = Method.of("dot"), Task(QUERIES[:2], white.task_mix(QUERIES[:2], 0.9))
    alone, beside = (exact_scores(white, QUERIES, method, range(N), Silent(), of) for of in (None, task))
    assert torch.equal(alone, beside)


def test_parts_and_groups_do_not_matter(white: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    method = Method.of("exact")
    whole = exact_scores(white, QUERIES, method, range(N), Silent())
    monkeypatch.setattr(unprojected, "QUERY_BYTES", 1)
    monkeypatch.setattr(exact, "PRODUCT_BYTES", 5 * 8 * 4 * len(QUERIES))
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


@pytest.mark.parametrize("task", [None, QUERIES[:2]])
def test_scoring_everything_again_is_the_exact_method(white: Tracer, task: Sequence[Query] | None) -> None:
    everything = white.trace(QUERIES, "kronecker", 4, task, exact_top=N)
    whole = white.trace(QUERIES, "exact", 4, task)
    for one, other in zip(everything, whole, strict=True):
        assert [p.id for p in one.proponents] == [p.id for p in other.proponents]
        assert [p.score for p in one.opponents] == pytest.approx([p.score for p in other.opponents], abs=1e-6)
    run, mix = white.index.folder.name, 0.9 if task else None
    assert everything.settings == {"method": "kronecker", "mix": mix, "run": run, "exact_top": N}
    assert whole.settings == {"method": "exact", "mix": mix, "run": run}


def test_a_result_file_says_how_many_were_scored_again(run: SlowRun, tmp_path: Path) -> None:
    hits = pp.trace(run.index, QUERIES, k=2, task=QUERIES, mix=0.5, exact_top=5, device="cpu")
    hits.write(tmp_path / "hits.jsonl")
    read = pp.Attribution.read(tmp_path / "hits.jsonl")
    assert read.settings == hits.settings
    assert read.settings["exact_top"] == 5
    assert "trackstar, first 5 exact, task mix λ = 0.5000" in str(read)


@pytest.mark.parametrize(
    ("method", "more", "complaint"),
    [
        ("kronecker", {"exact_top": 2}, "exact-top is 2; give 3"),
        ("kronecker", {"exact_top": 13}, "exact-top is 13"),
        ("kronecker", {"exact_top": 5, "tokens": True}, "token scores are of projected gradients"),
        ("exact", {"tokens": True}, "token scores are of projected gradients"),
    ],
)
def test_what_cannot_be_had(white: Tracer, method: str, more: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        pp.trace(white.index, QUERIES, method, 3, **more)


def test_what_a_run_cannot_give(white: Tracer) -> None:
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
