"""`proponent view RUN --ray local` as a process, asked by a browser and ended with its Ray session."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page
from tests.viewer.live.conftest import TASK
from tests.viewer.live.driving import ask, ids, scores

from proponent.viewer.live import LiveRun

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.slow
SOURCE = Path(__file__).parents[3] / "src"


@contextmanager
def server(run: Path, facts: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command with the address that it prints."""
    words = ["view", str(run), "--task", str(facts), "--port", "0", "--no-browser", "--device", "cpu", *more]
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heed}; import sys; sys.argv = ['proponent', *{words!r}]; from proponent.cli import main; main()"
    there = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True, env=there
    ) as made:
        assert made.stdout is not None
        yield made, made.stdout.readline().strip()
        made.kill()


def keepers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers that hold the shards."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [child for child in below if child.name().startswith("ray::") and "Keeper" in str(child.cmdline())]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_page_is_answered_by_workers_that_may_be_lost_and_that_end_with_the_server(
    ending: signal.Signals, run_folder: Path, facts_file: Path, live_run: LiveRun, page: Page
) -> None:
    with server(run_folder, facts_file, "--ray", "local") as (process, address):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address), "alone on stdout"
        page.goto(f"{address}#view=live")
        page.wait_for_selector("#live-prompt")
        shown = []
        for query in TASK[:2]:
            ask(page, query.prompt, query.target)
            shown.append((ids(page, "proponents"), ids(page, "opponents"), scores(page)))
            (keeper,) = keepers(process)
            keeper.kill()
        started = psutil.Process(process.pid).children(recursive=True)
        assert any("raylet" in child.name() for child in started), "a session of its own"
        process.send_signal(ending)
        out, errors = process.communicate(timeout=60)
    assert out == "", "only the address is on stdout"
    assert "its shards are loaded by others" in errors
    assert "Traceback" not in errors
    for query, (proponents, opponents, _) in zip(TASK[:2], shown, strict=True):
        (hit,) = live_run.tracer.trace([query], k=6, task=TASK)
        assert proponents == [passage.id for passage in hit.proponents]
        assert opponents == [passage.id for passage in hit.opponents]
    for _ in range(100):
        if not any(child.is_running() for child in started):
            break
        time.sleep(0.1)
    assert [child.name() for child in started if child.is_running()] == []


def test_an_address_without_a_cluster_is_an_error_of_one_line(run_folder: Path, facts_file: Path) -> None:
    with server(run_folder, facts_file, "--ray", "127.0.0.1:1") as (process, address):
        assert address == ""
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    (said,) = [line for line in errors.splitlines() if line.startswith("error:")]
    assert "no Ray cluster at '127.0.0.1:1'" in said
    assert "Traceback" not in errors
