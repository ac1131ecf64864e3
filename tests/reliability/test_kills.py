"""Killed -9 at random moments and started again, everything that is written ends with the same bytes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.evaluate.conftest import PLACES, write_facts
from tests.models import make_model
from tests.pretraining.conftest import CORPUS as LESSONS
from tests.reliability.forked import Kills, written
from tests.reliability.test_fuzz_runs import make
from tests.runs import CORPUS, QUERIES, small_spec

import proponent as pp
from proponent.attribute.subset import Aim
from proponent.build import indexing, plan
from proponent.evaluate.experiments import sweeps
from proponent.gradients.model import load_model
from proponent.viewer.export import export_page
from proponent.viewer.results import open_results

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = make_model(tmp_path_factory.mktemp("kills") / "model")
    loaded = load_model(str(folder), device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "load_model", lambda *_: loaded)
        patch.setattr(plan, "SHARD_ROWS", 3)
        yield folder


@pytest.mark.parametrize("times", [4, pytest.param(50, marks=SLOW)])
def test_an_index(times: int, model: Path, tmp_path: Path) -> None:
    kills, spec = Kills(), small_spec(model)

    def work(run: Path) -> None:
        pp.build_index(CORPUS, spec, run, "cpu")

    kills.of(work, tmp_path / "killed", times)
    print(f"index: {kills}")
    assert kills.killed >= times / 2


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=SLOW)])
@pytest.mark.parametrize("way", ["eigenvectors", "made compact"])
def test_a_compact_run(way: str, times: int, model: Path, tmp_path: Path) -> None:
    """Made of a full run, and as the features come."""
    kills = Kills()
    kills.of(make(way, model, tmp_path), tmp_path / "killed", times)
    print(f"{way}: {kills}")
    assert kills.killed >= times / 2


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=SLOW)])
def test_a_selection(times: int, model: Path, tmp_path: Path) -> None:
    run = pp.build_index(CORPUS, small_spec(model), tmp_path / "run", "cpu")
    kills = Kills()

    def work(path: Path) -> None:
        pp.select(run, QUERIES, Aim(3), device="cpu").write(path)

    kills.of(work, tmp_path / "set.jsonl", times)
    print(f"selection: {kills}")


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=SLOW)])
def test_an_export(times: int, model: Path, tmp_path: Path) -> None:
    run = pp.build_index(CORPUS, small_spec(model), tmp_path / "run", "cpu")
    pp.trace(run, [("The capital of France is", " Paris")], k=3, device="cpu").write(tmp_path / "hits.jsonl")
    files, kills = open_results([tmp_path / "hits.jsonl"]), Kills()
    kills.of(lambda page: export_page(files, page), tmp_path / "page.html", times)
    print(f"export: {kills}")


@pytest.mark.parametrize("times", [1, pytest.param(50, marks=SLOW)])
def test_an_experiment(times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "LAMBDAS", (0.0, 0.9))
    facts = write_facts(tmp_path / "facts.jsonl")
    source = indexed(tmp_path)
    kills = Kills()

    def work(place: Path) -> None:
        if not place.exists():
            copy = place.with_name(f"copy-{os.getpid()}")
            shutil.copytree(source, copy)
            copy.rename(place)
        pp.experiment("lambda", place, facts, patch_queries=2, device="cpu")

    kills.of(work, tmp_path / "killed", times)
    print(f"experiment: {kills}")


def indexed(folder: Path) -> Path:
    """A run that holds the passages of the facts."""
    passages = [
        pp.Example(f"{relation}-{subject}", f"The {relation} {subject}: {thing}.", "here")
        for relation in ("capital", "city", "seat", "port")
        for subject, thing in PLACES.items()
    ]
    model = make_model(folder / "other", bos_token_id=0)
    spec = pp.FeatureSpec(str(model), dim=96, max_length=48, batch_tokens=500, moment_sample=8)
    return pp.build_index(pp.Corpus.of(passages), spec, folder / "source", "cpu").folder.path


@pytest.mark.parametrize("times", [1, pytest.param(50, marks=SLOW)])
def test_a_pretraining(times: int, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="needs the extra 'pretrain'")
    kills = Kills()

    def work(folder: Path) -> None:
        pp.pretrain(LESSONS, folder, steps=12, batch=8)

    def but_for_seconds(folder: Path) -> dict[str, bytes]:
        files = written(folder)
        record = json.loads(files["pretrain.json"])
        assert record["result"].pop("seconds") > 0
        return {**files, "pretrain.json": json.dumps(record).encode()}

    kills.of(work, tmp_path / "model", times, but_for_seconds)
    print(f"pretraining: {kills}")
