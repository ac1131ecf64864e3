"""Being connected to a Ray cluster."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proponent.crew import LOCAL, connected
from proponent.errors import InputError


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    told = r"install it with: pip install 'proponent\[ray\]'"
    with pytest.raises(InputError, match=told), connected(LOCAL, 1):
        pass


DEAD = ["nowhere", "auto", "127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:1", "here:99999"]


@pytest.mark.parametrize("address", DEAD)
def test_a_cluster_that_is_not_there_is_named(address: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    told = rf"no Ray cluster at '{re.escape(address)}': .*; start one, or give the word local"
    with pytest.raises(InputError, match=told), connected(address, 1):
        pass


SPAWNING = """
import sys, time
from multiprocessing import get_context
from proponent.crew import end_with_parent

def work(pipe):
    end_with_parent()
    pipe.send("here")
    time.sleep(600)

if __name__ == "__main__":
    ours, theirs = get_context("spawn").Pipe()
    child = get_context("spawn").Process(target=work, args=(theirs,))
    child.start()
    ours.recv()
    print(child.pid, flush=True)
    child.join()
"""


def test_a_spawned_process_ends_with_one_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "spawning.py").write_text(SPAWNING)
    words = [sys.executable, tmp_path / "spawning.py"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(3000):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    pytest.fail("it goes on by itself")
