"""A tiny run open for live tracing, and a client of its server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page
from starlette.testclient import TestClient
from tests.models import make_model
from tests.viewer.live.driving import serving

from proponent.build.indexing import build_index
from proponent.corpus import Corpus, Example, Queries, Query
from proponent.gradients.spec import FeatureSpec
from proponent.viewer.app import create_app
from proponent.viewer.live import LiveRun
from proponent.viewer.results import open_results

PASSAGES = {
    "paris": "The capital of France is Paris.",
    "rome": "Rome is the capital of Italy.",
    "oslo": "Oslo lies in Norway.",
    "gold": "Gold has the symbol Au.",
    "cats": "Cats sleep all day long, dogs do not.",
    "nasty": "<script>alert(1)</script> & \u202eright to left",
}
TASK = Queries(
    (
        Query("f0", "The capital of France is", "Paris", {"fact_id": "f0", "trex_sentences": ["paris"]}),
        Query("f1", "The capital of Italy is", "Rome", {"fact_id": "f1", "trex_sentences": ["rome"]}),
        Query("f2", "The symbol of gold is", "Au", {"fact_id": "f2", "trex_sentences": ["gold"]}),
    )
)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny random model: four blocks of 4 x 4."""
    folder = tmp_path_factory.mktemp("live")
    corpus = Corpus.of([Example(id, text, f"memory:{id}") for id, text in PASSAGES.items()])
    model = str(make_model(folder / "tiny"))
    spec = FeatureSpec(model=model, dim=70, layer_groups=2, max_length=48, batch_tokens=150, damping=0.5)
    build_index(corpus, spec, folder / "small-run", "cpu")
    return folder / "small-run"


@pytest.fixture(scope="session")
def live_run(run_folder: Path) -> LiveRun:
    return LiveRun(run_folder, TASK, "cpu")


@pytest.fixture(scope="session")
def hits_file(live_run: LiveRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result file of the task."""
    path = tmp_path_factory.mktemp("hits") / "hits.jsonl"
    live_run.tracer.trace(TASK, k=3).write(path)
    return path


@pytest.fixture
def client(live_run: LiveRun, hits_file: Path) -> Iterator[TestClient]:
    """A client of a server that shows the result file and the run."""
    app = create_app(open_results([hits_file]), live_run)
    with TestClient(app, base_url="http://localhost:8321") as client:
        yield client


@pytest.fixture
def facts_file(tmp_path: Path) -> Path:
    """The task as a file of facts."""
    path = tmp_path / "facts.jsonl"
    lines = [{"prompt": q.prompt, "target": q.target, "id": q.id, **q.fields} for q in TASK]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def address(live_run: LiveRun, hits_file: Path) -> Iterator[str]:
    with serving(open_results([hits_file]), live_run) as address:
        yield address


@pytest.fixture
def live(page: Page, address: str) -> Page:
    """The page in its live view."""
    page.goto(f"{address}#view=live")
    page.wait_for_selector("#live-prompt")
    return page
