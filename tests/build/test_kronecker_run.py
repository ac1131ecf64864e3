"""A run with Kronecker second moments and R_train taken for the identity: its files, scores and mix."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.runs import CORPUS, QUERIES, small_spec

from proponent.attribute.method import Method
from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index, build_indexes
from proponent.errors import InputError
from proponent.evaluate.experiments.given import Given
from proponent.evaluate.experiments.tasks import Tasks
from proponent.evaluate.info import info
from proponent.files import write_json
from proponent.index.manifest import read_manifest
from proponent.index.run import Index
from proponent.index.whitening import ScaledIdentity

K = 12


@pytest.fixture(scope="module")
def white(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tracer:
    path = tmp_path_factory.mktemp("kronecker") / "run"
    index = build_index(CORPUS, small_spec(model_folder, second_moment="kronecker"), path, "cpu")
    return Tracer(index, "cpu")


def features_of(tracer: Tracer) -> torch.Tensor:
    """Features φ [n, d] of the run's rows, by another pass."""
    encoder = tracer.model.encoder
    chunks = [c for e in CORPUS for c in encoder.chunks(e, 48)]
    return tracer.extract([c.tokens for c in chunks], [c.start for c in chunks], "loss").double()


def test_blocks_are_scaled_to_a_mean_eigenvalue_of_one(white: Tracer) -> None:
    phi, width = features_of(white), white.plan.block_width
    psi = torch.cat([shard.rows.decode() for shard in white.index.shards()]).double()
    blocks = white.index.whitening.blocks
    for part, own, block in zip(phi.split(width, 1), psi.split(width, 1), blocks, strict=True):
        assert isinstance(block, ScaledIdentity)
        assert block.mean == pytest.approx(float(part.square().sum(1).mean()) / width, rel=1e-3)
        torch.testing.assert_close(own, part / block.mean**0.5, rtol=5e-3, atol=5e-3)
        assert float(own.square().mean()) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("mix", [None, 0.5, 0.9])
def test_scores_are_those_of_the_mixed_identity(white: Tracer, mix: float | None) -> None:
    phi, width = features_of(white), white.plan.block_width
    queries = white.features(QUERIES).double()
    sides = []
    for part, of_queries in zip(phi.split(width, 1), queries.split(width, 1), strict=True):
        mean = part.square().sum(1).mean() / width
        R = mean * torch.eye(width, dtype=torch.float64)
        if mix:
            R = (1 - mix) * R + mix * of_queries.T @ of_queries / len(of_queries)
        root = torch.linalg.inv(torch.linalg.cholesky(R))
        sides.append((of_queries @ root.T, part @ root.T))
    Q, M = (torch.cat(side, 1) for side in zip(*sides, strict=True))
    expected = (Q / Q.norm(dim=1, keepdim=True)) @ (M / M.norm(dim=1, keepdim=True)).T
    hits = white.trace(QUERIES, "kronecker", K, QUERIES if mix else None, mix or "auto")
    for row, hit in zip(expected, hits, strict=True):
        for passage in hit.proponents:
            assert passage.score == pytest.approx(float(row[passage.row]), abs=3e-3)


def test_an_automatic_mix_tokens_and_likeness_work(white: Tracer) -> None:
    hits = white.trace(QUERIES, "kronecker", 4, QUERIES, tokens=True, diverse=True)
    assert hits.settings["mix"] == 0.9, "there is no spectrum to cross"
    method = Method.of("cosine")
    (hit, *_) = white.trace(QUERIES, method, 2, tokens=True)
    inner = features_of(white) @ white.features(QUERIES[:1]).double()[0]
    for passage in hit.proponents:
        total = sum(share for _, share in passage.tokens or ())
        assert passage.row is not None
        assert total == pytest.approx(float(inner[passage.row]), rel=1e-3, abs=1e-3)


def test_it_resumes_checks_and_says_what_it_is(white: Tracer) -> None:
    again = build_index(CORPUS, replace(white.spec), white.index.folder.path, "cpu")
    assert again.check() > 0
    shown = str(info(white.index.folder.path))
    assert "kronecker" in shown
    assert "identity" in shown


def test_there_is_no_r_to_damp(white: Tracer) -> None:
    with pytest.raises(InputError, match="has no R_train that could be damped"):
        Index(white.index.folder.path, 0.1)


def test_r_can_be_asked_for_on_top_and_both_share_a_pass(model_folder: Path, tmp_path: Path) -> None:
    spec = small_spec(model_folder, second_moment="kronecker")
    with_r = replace(spec, hessian="train")
    white, full = build_indexes(CORPUS, {tmp_path / "a": spec, tmp_path / "b": with_r}, "cpu")
    assert (white.white, full.white) == (True, False)
    sides = [(tmp_path / name / "sides.safetensors").read_bytes() for name in ("a", "b")]
    assert sides[0] == sides[1]
    assert Tracer(full, "cpu").trace(QUERIES, k=1)[0].proponents


def test_older_runs_have_r(model_folder: Path, tmp_path: Path) -> None:
    spec = small_spec(model_folder)
    assert spec.hessian == "train"
    index = build_index(CORPUS, spec, tmp_path / "run", "cpu")
    manifest = json.loads(index.folder.manifest.read_text())
    del manifest["spec"]["hessian"]
    write_json(index.folder.manifest, manifest)
    assert read_manifest(index.folder)["spec"]["hessian"] == "train"
    with pytest.raises(InputError, match="hessian is 'half'; choose one of train, identity"):
        small_spec(model_folder, hessian="half")


def test_it_is_not_called_trackstar(white: Tracer) -> None:
    assert white.trace(QUERIES, k=1).settings["method"] == "kronecker"
    with pytest.raises(InputError, match="'trackstar' does not fit a run with Kronecker second moments"):
        white.trace(QUERIES, "trackstar", 1)


def test_experiments_make_what_trackstar_needs_beside_it(white: Tracer, tmp_path: Path) -> None:
    run, queries = tmp_path / "run", tmp_path / "queries.jsonl"
    shutil.copytree(white.index.folder.path, run)
    queries.write_text(json.dumps({"prompt": QUERIES[0].prompt, "target": QUERIES[0].target}) + "\n")
    study = Tasks(Given(run, queries=(queries,), device="cpu"))
    assert not (run / "variants").exists(), "only when it is needed"
    (hit,) = study.traced("trackstar")
    paper = build_index(study.passages, small_spec(Path(white.spec.model)), tmp_path / "paper", "cpu")
    assert study.index.spec == {**paper.spec, "damping": study.index.spec["damping"]}
    (expected,) = Tracer(paper, "cpu").trace(study.queries, "trackstar", len(paper))
    assert [p.id for p in hit.proponents] == [p.id for p in expected.proponents]
    assert study.run.parent == run / "variants"
    assert study.folder.parent == run / "experiments"
