"""`proponent view`: what it refuses, what it prints, and a real server that is asked and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.cli.processes import ENVIRONMENT
from tests.cli.running import Command, Made, write_lines

from proponent.viewer.server import has_screen

RESULT = {
    "inputs_plaintext": "The capital of France is",
    "targets_plaintext": "Paris",
    "proponents": ["Paris."],
}


@pytest.fixture
def hits(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "hits.jsonl", RESULT)


def test_what_cannot_be_shown_is_refused(proponent: Command, made: Made, hits: Path, tmp_path: Path) -> None:
    proponent("view", tmp_path / "none.jsonl").assert_refused("none.jsonl: no such result file or run")
    proponent("view", made.facts).assert_refused("facts.jsonl:1: no result: it needs the fields")
    proponent("view", tmp_path).assert_refused("not a run (no run.json)")
    proponent("view", made.run, tmp_path).assert_refused("a second folder")
    proponent("view", hits, "--task", made.facts).assert_refused("--task is for live tracing")
    proponent("view", hits, "--ray", "local").assert_refused("--ray is for live tracing")
    proponent("view", made.run, "--task", tmp_path / "t.jsonl").assert_refused("no such file or folder")
    proponent("view", made.run, "--time-limit", "0").assert_refused("--time-limit is 0.0; give more than 0")
    proponent("view", hits, "--port", "70000").assert_refused("--port is 70000; give 0 to 65535")
    proponent("view", hits, hits).assert_refused("given 2 times")
    proponent("view").assert_refused("nothing to show; name result files or a run, or give --allow-url")
    page = tmp_path / "page.html"
    proponent("view", hits, "--allow-url", "--export", page).assert_refused("an exported page loads nothing")
    assert not page.exists()


def test_a_page_is_exported(proponent: Command, made: Made, hits: Path, tmp_path: Path) -> None:
    answer = proponent("view", hits, "--export", tmp_path / "page.html")
    assert (answer.code, answer.out) == (0, "")
    assert "The capital of France is" in (tmp_path / "page.html").read_text(encoding="utf-8")
    proponent("view", made.run, "--export", tmp_path / "p.html").assert_refused("holds result files only")
    proponent("view", hits, "--export", tmp_path).assert_refused("is a folder")
    assert not (tmp_path / "p.html").exists()


def test_a_server_is_asked_and_ended(made: Made, hits: Path) -> None:
    arguments = ["view", str(made.run), str(hits), "--task", str(made.facts), "--port", "0", "--no-browser"]
    # a shell starts what runs beside it deaf to Ctrl-C, and children would be as well
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    run = f"import sys; sys.argv = ['proponent', *{arguments!r}]; from proponent.cli import main; main()"
    code = f"{heed}; {run}"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.stderr
        with urllib.request.urlopen(f"{address}api/state") as answer:
            state = json.load(answer)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(address, headers={"Host": "evil.example"}))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert state["files"] == [{"name": "hits.jsonl"}]
    assert state["run"]["task_queries"] == 2
    assert "Traceback" not in errors
    assert "press Ctrl-C to end" in errors


def test_no_browser_is_opened_without_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not has_screen()
    monkeypatch.setitem(os.environ, "DISPLAY", ":0")
    assert has_screen()
