"""Asking the server as a program does: what most tests of it begin with."""

from __future__ import annotations

import time
from typing import Any

from starlette.testclient import TestClient

FRANCE = {"prompt": "The capital of France is", "target": "Paris"}
ASKED = {**FRANCE, "method": "trackstar", "mix": "auto", "k": 4}
JSON = {"content-type": "application/json"}


def finished(client: TestClient, id: str) -> dict[str, Any]:
    """The status of a trace when nothing more will come of it."""
    for _ in range(1000):
        status: dict[str, Any] = client.get(f"/api/traces/{id}").json()
        if status["state"] not in ("queued", "running"):
            return status
        time.sleep(0.01)
    raise AssertionError(f"still {status}")


def traced(client: TestClient, asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Id and row of a trace that must end well."""
    answer = client.post("/api/traces", json=asked)
    assert answer.status_code == 202, answer.text
    status = finished(client, answer.json()["id"])
    assert status["state"] == "done", status
    return answer.json()["id"], status["row"]
