"""Traces that wait, are cancelled, take too long, fail or are forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.viewer.live.asking import ASKED, FRANCE, finished, traced
from tests.viewer.live.conftest import TASK

from proponent.attribute.live import Ranking, Traced
from proponent.progress import Advance, Progress, Silent
from proponent.viewer import desk
from proponent.viewer.app import create_app
from proponent.viewer.live import LiveRun


class SlowRun(LiveRun):
    """A run whose traces go on until they are let go, cancelled or not."""

    def __init__(self, run: LiveRun) -> None:
        self.__dict__.update(run.__dict__)
        self.started, self.go = threading.Event(), threading.Event()

    def trace(self, prompt: str, target: str, progress: Progress) -> Traced:
        with progress.stage("waiting", 100, "turns") as advance:
            self.started.set()
            while not self.go.wait(0.01):
                advance(0)
            advance(60)
        return super().trace(prompt, target, progress)


@pytest.fixture
def slow(live_run: LiveRun) -> Iterator[Callable[..., tuple[SlowRun, TestClient]]]:
    """Makes a slow run and a client of its server."""
    opened: list[tuple[SlowRun, TestClient]] = []

    def make(seconds: float = 300.0) -> tuple[SlowRun, TestClient]:
        run = SlowRun(live_run)
        client = TestClient(create_app(run=run, seconds=seconds), base_url="http://localhost")
        client.__enter__()
        opened.append((run, client))
        return run, client

    yield make
    for run, client in opened:
        run.go.set()
        client.__exit__()


def test_requests_wait_their_turn_and_tell_their_place(slow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "WAITING", 2)
    run, client = slow()
    ids = [client.post("/api/traces", json=ASKED).json()["id"]]
    assert run.started.wait(5)
    ids += [client.post("/api/traces", json=ASKED).json()["id"] for _ in range(2)]
    statuses = [client.get(f"/api/traces/{id}").json() for id in ids]
    assert [(s["state"], s["position"]) for s in statuses] == [("running", 0), ("queued", 1), ("queued", 2)]
    assert statuses[0]["message"] == "waiting"
    assert statuses[0]["total"] == 100
    full = client.post("/api/traces", json=ASKED)
    assert full.status_code == 429
    assert full.headers["retry-after"] == "5"
    assert "2 requests are waiting already" in full.json()["detail"]
    run.go.set()
    assert [finished(client, id)["state"] for id in ids] == ["done"] * 3


def test_a_trace_can_be_cancelled_while_it_runs_or_waits(slow: Any) -> None:
    run, client = slow()
    ids = [client.post("/api/traces", json=ASKED).json()["id"] for _ in range(3)]
    assert run.started.wait(5)
    assert client.delete(f"/api/traces/{ids[1]}").json()["state"] == "cancelled"
    client.delete(f"/api/traces/{ids[0]}")
    assert finished(client, ids[0])["state"] == "cancelled"
    run.go.set()
    assert finished(client, ids[2])["state"] == "done", "the others go on"
    assert client.delete(f"/api/traces/{ids[2]}").json()["state"] == "done", "too late: it stays done"
    answer = client.post(f"/api/traces/{ids[1]}/rerank", json={"method": "dot", "k": 1})
    assert answer.status_code == 409
    assert answer.json()["detail"] == "this trace is not done, so there is nothing to rank"


def test_a_trace_that_takes_too_long_ends(slow: Any) -> None:
    _, client = slow(seconds=0.05)
    status = finished(client, client.post("/api/traces", json=ASKED).json()["id"])
    assert status["state"] == "failed"
    assert "took longer than the limit of 0.05 seconds" in status["message"]


def test_the_oldest_traces_are_forgotten(live_run: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "KEPT", 2)
    app = create_app(run=live_run)
    with TestClient(app, base_url="http://localhost") as client:
        ids = [traced(client, ASKED)[0] for _ in range(4)]
        found = [client.get(f"/api/traces/{id}").status_code for id in ids]
    assert found == [404, 200, 200, 200], "two that are over, and the newest"


@pytest.mark.parametrize("last", ["running the model", "searching"])
def test_a_trace_can_be_ended_at_every_stage(last: str, live_run: LiveRun) -> None:
    """The model and the search report their progress, and what that raises ends them."""
    stages = []

    class Ending(Silent):
        @contextmanager
        def stage(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
            stages.append((name, total, unit))

            def advance(units: int, tokens: int = 0) -> None:
                if name == last:
                    raise TimeoutError

            yield advance

    with pytest.raises(TimeoutError):
        live_run.trace(**FRANCE, progress=Ending())
    assert stages == [("running the model", 2, "passes"), ("searching", 6, "rows")][: len(stages)]
    assert stages[-1][0] == last


def test_a_task_that_does_not_fit_into_memory_is_scanned_for(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, live_run: LiveRun
) -> None:
    monkeypatch.setattr("proponent.attribute.live.TASK_BYTES", 10)
    small = LiveRun(run_folder, TASK, "cpu")
    found = small.trace(**FRANCE, progress=Silent())
    expected = live_run.trace(**FRANCE, progress=Silent())
    for wanted in (Ranking("trackstar", 0.9, 6), Ranking("trackstar", None, 6), Ranking("cosine", None, 6)):
        row, other = (run.rank(it, wanted, Silent()) for run, it in ((small, found), (live_run, expected)))
        assert row["proponent_ids"] == other["proponent_ids"]
        assert row["proponent_scores"] == pytest.approx(other["proponent_scores"], abs=2e-6)


def test_memory_limits_how_many_traces_are_kept(live_run: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert live_run.keeps > 1000
    monkeypatch.setattr("proponent.viewer.live.TRACES_BYTES", 4 * 3 * 6 * 5)
    assert live_run.keeps == 5


def test_an_error_inside_the_server_is_told_without_its_words(
    live_run: LiveRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(LiveRun, "rank", broken)
    with TestClient(create_app(run=live_run), base_url="http://localhost") as client:
        status = finished(client, client.post("/api/traces", json=ASKED).json()["id"])
    assert status["state"] == "failed"
    assert status["message"] == "the server failed (RuntimeError); its terminal says more"
    assert "/secret/path" in caplog.text
