"""What the server answers: results by number, continuations, traces, rankings without the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.references.tail_patch import target_probability
from tests.viewer.live.asking import ASKED, FRANCE, JSON, finished, traced
from tests.viewer.live.conftest import PASSAGES, TASK
from torch import Tensor

from proponent.corpus import Queries
from proponent.errors import InputError
from proponent.gradients.model import LanguageModel
from proponent.viewer.app import create_app
from proponent.viewer.live import LiveRun
from proponent.viewer.results import open_results


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every pass of the model, as they are made."""
    made: list[int] = []
    real = LanguageModel.hidden

    def counted(self: LanguageModel, tokens: Tensor) -> Tensor:
        made.append(len(tokens))
        return real(self, tokens)

    monkeypatch.setattr(LanguageModel, "hidden", counted)
    return made


# --- state and files --------------------------------------------------------------------------------


def test_state_tells_what_there_is(client: TestClient, live_run: LiveRun) -> None:
    state = client.get("/api/state").json()
    assert state["files"] == [{"name": "hits.jsonl"}]
    run = state["run"]
    folder = live_run.tracer.index.folder.path.parent.name
    assert (run["name"], run["model"]) == (f"{folder}/small-run", f"{folder}/tiny")
    assert run["passages"] == len(PASSAGES) == run["k_max"]
    assert run["dim"] == live_run.tracer.index.dim == 64
    assert run["methods"] == ["trackstar", "cosine", "dot"], "trak needs a run without V"
    assert run["mixed_methods"] == ["trackstar"]
    assert run["task"] is True
    assert run["task_queries"] == 3
    assert 0 < run["mix_default"] < 1
    assert {"prompt": "The symbol of gold is", "target": "Au"} in run["examples"]


def test_without_a_run_there_is_no_live_tracing(hits_file: Path) -> None:
    with TestClient(create_app(open_results([hits_file])), base_url="http://localhost") as client:
        assert client.get("/api/state").json()["run"] is None
        assert client.post("/api/traces", json=ASKED).status_code in (404, 405)


def test_files_are_streamed_by_number(client: TestClient, hits_file: Path) -> None:
    answer = client.get("/api/files/0")
    served = [json.loads(line) for line in answer.text.splitlines()]
    assert served == [json.loads(line) for line in hits_file.read_text().splitlines()]
    assert len(served) == 3
    for number in ("1", "-1", "hits.jsonl", "0/..", "%2e%2e"):
        assert client.get(f"/api/files/{number}").status_code in (400, 404), number


def test_a_file_that_broke_since_it_was_opened_says_so_at_its_end(hits_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(hits_file.read_text())
    opened = open_results([path])
    path.write_text(hits_file.read_text() + '{"inputs_plaintext": "x"}\n')
    with pytest.raises(InputError, match=r"broken\.jsonl:4: no result"):
        open_results([path])
    with TestClient(create_app(opened), base_url="http://localhost") as client:
        *good, last = map(json.loads, client.get("/api/files/0").text.splitlines())
    assert len(good) == 3
    assert list(last) == ["error"]
    assert "broken.jsonl:4: no result: it needs the fields" in last["error"]


# --- continuations ----------------------------------------------------------------------------------


def test_continuations_have_falling_probabilities(client: TestClient) -> None:
    answer = client.post("/api/continuations", json={"prompt": FRANCE["prompt"], "count": 5})
    found = answer.json()["continuations"]
    assert len(found) == 5
    values = [one["probability"] for one in found]
    assert values == sorted(values, reverse=True)
    assert 0 < sum(values) <= 1
    assert all(one["text"] and one["text"] == one["text"].strip() for one in found)


def test_a_prompt_that_is_too_long_is_refused(client: TestClient) -> None:
    answer = client.post("/api/continuations", json={"prompt": "x" * 60})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("the prompt is 61 tokens long; the run's max-length of 48")


# --- traces -----------------------------------------------------------------------------------------


def test_a_trace_is_what_the_library_finds(client: TestClient, live_run: LiveRun) -> None:
    _, row = traced(client, ASKED)
    (expected,) = live_run.tracer.trace(TASK[:1], k=4, task=TASK).records()
    encoded = live_run.tracer.model.encoder.query(TASK[0], 48)
    assert row.pop("probability") == pytest.approx(target_probability(live_run.tracer.model, encoded))
    for role in ("proponent_scores", "opponent_scores"):
        assert row.pop(role) == pytest.approx(expected.pop(role), abs=2e-6)
    assert row == expected
    assert row["proponent_correct"].count(True) == 1, "a query of the task knows its gold passages"
    assert row["mix"] == client.get("/api/state").json()["run"]["mix_default"]


def test_a_query_that_no_task_knows_can_be_traced(client: TestClient) -> None:
    _, row = traced(client, {"prompt": "Dogs", "target": "bark", "method": "cosine", "k": 2})
    assert row["inputs_plaintext"] == "Dogs"
    assert row["targets_plaintext"] == "bark"
    assert len(row["proponents"]) == len(row["opponents"]) == 2
    assert row["method"] == "cosine"
    assert row["mix"] is None
    assert "proponent_correct" not in row


def test_rankings_need_no_pass_of_the_model(client: TestClient, passes: list[int], live_run: LiveRun) -> None:
    asked = {"prompt": "The capital of Norway is", "target": "Oslo", "method": "dot", "k": 6}
    id, first = traced(client, asked)
    assert passes, "the trace itself asks the model"
    made = len(passes)
    rows = {}
    for method, mix in (
        ("trackstar", None),
        ("trackstar", 0.0),
        ("trackstar", 0.5),
        ("trackstar", 0.99),
        ("trackstar", "auto"),
        ("cosine", None),
        ("dot", 0.7),
    ):
        answer = client.post(f"/api/traces/{id}/rerank", json={"method": method, "mix": mix, "k": 6})
        assert answer.status_code == 200, answer.text
        rows[method, mix] = answer.json()["row"]
    assert len(passes) == made, "no ranking may ask the model"
    assert rows["dot", 0.7] == first, "dot has no mix"
    oslo = Queries.of(asked["prompt"], asked["target"])
    for (method, mix), row in rows.items():
        mixed = method == "trackstar" and mix is not None
        hits = live_run.tracer.trace(oslo, method, 6, TASK if mixed else None, mix if mixed else "auto")
        assert row["proponent_ids"] == [p.id for p in hits[0].proponents]
        assert row["proponent_scores"] == pytest.approx([p.score for p in hits[0].proponents], rel=1e-5)
    scores = {tuple(row["proponent_scores"]) for row in rows.values()}
    assert len(scores) >= 6, "the slider must change something"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": ""}, "prompt: String should have at least 1 character"),
        ({"prompt": " "}, "the prompt is empty"),
        ({"target": "\t"}, "the target is empty"),
        ({"target": "y" * 60}, "its target would be cut off"),
        ({"prompt": "x" * 8001}, "prompt: String should have at most 8000 characters"),
        ({"prompt": 7}, "prompt: Input should be a valid string"),
        ({"prompt": "\ud800"}, "prompt: "),
        ({"method": "trak"}, "no method 'trak' for this run; choose one of trackstar, cosine, dot"),
        ({"method": "x" * 200}, "method: String should have at most 100 characters"),
        ({"mix": 1.0}, "mix"),
        ({"mix": -0.1}, "mix"),
        ({"mix": "half"}, "mix"),
        ({"k": 0}, "k: Input should be greater than or equal to 1"),
        ({"k": 7}, "k is 7; give 1 to 6"),
        ({"path": "/etc/passwd"}, "path: Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_line(
    change: dict[str, Any], words: str, client: TestClient
) -> None:
    answer = client.post("/api/traces", content=json.dumps({**ASKED, **change}), headers=JSON)
    detail = answer.json()["detail"] if answer.status_code == 400 else ""
    if answer.status_code == 202:
        status = finished(client, answer.json()["id"])
        assert status["state"] == "failed"
        detail = status["message"]
    assert words in detail
    assert "\n" not in detail


def test_a_mix_needs_a_task(run_folder: Path) -> None:
    bare = LiveRun(run_folder, None, "cpu")
    with TestClient(create_app(run=bare), base_url="http://localhost") as client:
        run = client.get("/api/state").json()["run"]
        assert (run["task"], run["mix_default"], run["mixed_methods"]) == (False, None, [])
        answer = client.post("/api/traces", json={**ASKED, "mix": 0.5})
        assert answer.status_code == 400
        assert "start the viewer with --task" in answer.json()["detail"]
        _, row = traced(client, ASKED)
        assert row["mix"] is None, "an automatic mix of no task is none"


def test_unknown_traces_are_not_found(client: TestClient) -> None:
    assert client.get("/api/traces/nothing").status_code == 404
    assert client.delete("/api/traces/nothing").status_code == 404
    assert client.post("/api/traces/nothing/rerank", json={"method": "dot"}).status_code == 404
