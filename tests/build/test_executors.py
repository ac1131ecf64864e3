"""Whoever runs the tasks of a build, and whoever is killed meanwhile, the run has the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from tests.build import driver
from tests.build.driver import CORPUS
from tests.killing import killed_at
from tests.runs import contents

from proponent.build import plan
from proponent.build.array import build_part, finish_index
from proponent.build.folder import building, sharing
from proponent.build.indexing import build_index, build_indexes
from proponent.build.processes import Processes, devices
from proponent.build.worker import Job, Setup, Worker
from proponent.errors import InputError
from proponent.index.run import RunFolder
from proponent.progress import Silent

ROOT = Path(__file__).parents[2]
RAY = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
TASKS = 3


class Said(Silent):
    """Keeps the lines that are said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_ROWS", driver.SHARD_ROWS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT)]))


@pytest.fixture(scope="session")
def whole(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of the run as this process makes it undisturbed, with one thread."""
    path = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_ROWS", driver.SHARD_ROWS)
        made = build_index(CORPUS, driver.spec(model_folder), path, "cpu")
    assert len(made.summary["shards"]) == 15
    return contents(path)


# --- processes --------------------------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Gives torch so many threads until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_processes_make_the_bytes_of_this_process_in_one_pass_for_all_runs(
    model_folder: Path, whole: dict[str, bytes], threads: Callable[[int], None], tmp_path: Path
) -> None:
    """With the threads of this process divided among them, and named in the run."""
    spec = driver.spec(model_folder)
    specs = {tmp_path / "a": spec, tmp_path / "b": replace(spec, hessian="identity", second_moment="none")}
    said = Said()
    threads(3)
    build_indexes(CORPUS, specs, "cpu", said, executor=Processes(2, "cpu"))
    assert torch.get_num_threads() == 3
    threads(1)
    assert "2 processes of 1 thread each" in said.lines
    assert json.loads((tmp_path / "a" / "run.json").read_text())["made_with"]["threads"] == 1
    assert contents(tmp_path / "a") == whole
    build_index(CORPUS, specs[tmp_path / "b"], tmp_path / "alone", "cpu")
    assert contents(tmp_path / "b") == contents(tmp_path / "alone")


def test_threads_are_divided_among_workers(threads: Callable[[int], None]) -> None:
    threads(5)
    assert [Processes(count).threads for count in (1, 2, 5, 9)] == [5, 2, 1, 1]


def test_devices_are_given_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices("cpu") == ["cpu"]
    assert devices("cuda:1") == ["cuda:1"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert devices(None) == devices("cuda") == ["cuda:0", "cuda:1", "cuda:2"]


class Interfering(Said):
    """Calls something at each line that holds a word."""

    def __init__(self, word: str, interfere: Callable[[], None]) -> None:
        super().__init__()
        self._word, self._interfere = word, interfere

    def say(self, line: str) -> None:
        super().say(line)
        if self._word in line:
            self._interfere()


def kill_the_first_child() -> None:
    """Kill -9 the first process that this one starts."""
    for _ in range(6000):
        for child in active_children():
            child.kill()
            return
        time.sleep(0.01)


@pytest.mark.usefixtures("forking")
def test_a_killed_worker_is_named_and_its_task_done_again(
    model_folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    said, killer = Said(), threading.Thread(target=kill_the_first_child)
    killer.start()
    one = Processes(1, "cpu")
    build_index(CORPUS, driver.spec(model_folder), tmp_path / "run", "cpu", said, executor=one)
    killer.join()
    (line,) = [line for line in said.lines if "killed" in line]
    assert "was killed by SIGKILL, as the system does when memory runs out, at " in line
    assert contents(tmp_path / "run") == whole


@pytest.mark.usefixtures("forking")
def test_what_a_worker_cannot_use_is_the_error_of_this_process(model_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def damage() -> None:
        file = run / "work" / "rows" / "00003.parquet"
        file.write_bytes(file.read_bytes()[:-9])

    damaging = Interfering("2 processes", damage)
    with pytest.raises(InputError, match=r"rows/00003.parquet: damaged .*; remove it and run the same"):
        build_index(CORPUS, driver.spec(model_folder), run, "cpu", damaging, executor=Processes(2, "cpu"))
    assert not active_children()


def test_workers_of_other_versions_are_refused(model_folder: Path, tmp_path: Path) -> None:
    setup = Setup((str(tmp_path),), "loss", 1, versions={"torch": "1.0"})
    error = Worker(setup, "cpu").do(Job("features-00000", None, 0))
    assert isinstance(error, InputError)
    assert "not torch 1.0; install the same everywhere" in str(error)


# A shell starts what runs beside it deaf to Ctrl-C, and children would be as well.
INTERRUPTED = """
import os, signal, sys
from contextlib import nullcontext
from pathlib import Path
import torch
from tests.build import driver
from proponent.build.indexing import build_index
from proponent.build.processes import Processes
from proponent.progress import Silent

class Terminal(Silent):
    def stage(self, name, total, unit):
        def advance(units, tokens=0):
            if name == "gradients" and units:
                os.killpg(0, signal.SIGINT)
        return nullcontext(advance)

signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
driver.plan.SHARD_ROWS = driver.SHARD_ROWS
model, run = map(Path, sys.argv[1:])
build_index(driver.CORPUS, driver.spec(model), run, "cpu", Terminal(), executor=Processes(1, "cpu"))
"""


def test_ctrl_c_ends_the_workers(model_folder: Path, tmp_path: Path) -> None:
    """Pressed as the first rows are done, it reaches every process of a terminal, of which one says so."""
    command = [sys.executable, "-c", INTERRUPTED, str(model_folder), str(tmp_path / "run")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True, text=True)
    _, said = process.communicate(timeout=600)
    assert process.returncode != 0
    assert said.count("KeyboardInterrupt") == 1, said
    for _ in range(1000):  # until nobody of its group is left
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("processes go on")


# --- parts ------------------------------------------------------------------------------------------


def test_parts_in_any_order_and_twice_make_the_same_bytes(
    model_folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    spec, run = driver.spec(model_folder), tmp_path / "run"
    assert build_part(CORPUS, spec, run, (2, TASKS), "cpu") == 5
    with pytest.raises(InputError, match=r"features of 10 of 15 shards are missing \(0, 1, 3, 4, .*--finish"):
        finish_index(spec, run)
    assert build_part(CORPUS, spec, run, (0, TASKS), "cpu") == 5
    assert build_part(CORPUS, spec, run, (2, TASKS), "cpu") == 0
    assert build_part(CORPUS, spec, run, (1, TASKS), "cpu") == 5
    finish_index(spec, run)
    assert contents(run) == whole
    assert build_part(CORPUS, spec, run, (1, TASKS), "cpu") == 0, "it is finished"
    finish_index(spec, run)
    assert contents(run) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_parts_that_begin_at_once_wait_for_the_one_that_plans(
    model_folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Two of them are the same one."""
    lives = [life(model_folder, tmp_path / "run", ("task", str(n), "2")) for n in (0, 1, 1)]
    for process in lives:
        process.start()
    for process in lives:
        process.join()
    assert [process.exitcode for process in lives] == [0, 0, 0]
    finish_index(driver.spec(model_folder), tmp_path / "run")
    assert contents(tmp_path / "run") == whole


def test_a_part_of_a_run_of_other_settings_is_refused_without_the_corpus(
    model_folder: Path, tmp_path: Path
) -> None:
    spec, run = driver.spec(model_folder), tmp_path / "run"
    build_part(CORPUS, spec, run, (0, 4), "cpu")
    for refused in (
        lambda: build_part(CORPUS, replace(spec, damping=2.0), run, (1, 4), "cpu"),
        lambda: finish_index(replace(spec, damping=2.0), run),
    ):
        with pytest.raises(InputError, match=r"made with other settings: spec.damping was oas, now 2.0"):
            refused()
    with pytest.raises(InputError, match=r"part 4 of 4; parts of 4 are numbered from 0 to 3"):
        build_part(CORPUS, spec, run, (4, 4), "cpu")
    with pytest.raises(InputError, match=r"nothing to finish; make its features first, with --task"):
        finish_index(spec, tmp_path / "none")


def test_parts_share_a_run_that_nobody_may_build_or_finish_meanwhile(
    model_folder: Path, tmp_path: Path
) -> None:
    spec, run = driver.spec(model_folder), tmp_path / "run"
    build_part(CORPUS, spec, run, (0, 1), "cpu")
    with sharing(RunFolder(run)):
        with sharing(RunFolder(run)):
            pass
        for refused in (lambda: finish_index(spec, run), lambda: build_index(CORPUS, spec, run, "cpu")):
            with pytest.raises(InputError, match="another process is building this run; wait"):
                refused()
    with building(RunFolder(run)), pytest.raises(InputError, match="another process is building this run"):
        build_part(CORPUS, spec, run, (0, 2), "cpu")
    finish_index(spec, run)
    assert not (run / ".lock").exists()


def test_a_build_goes_on_with_what_parts_have_made(
    model_folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    build_part(CORPUS, driver.spec(model_folder), tmp_path / "run", (1, TASKS), "cpu")
    build_index(CORPUS, driver.spec(model_folder), tmp_path / "run", "cpu")
    assert contents(tmp_path / "run") == whole


# --- killed -----------------------------------------------------------------------------------------


def life(model: Path, run: Path, way: Sequence[str]) -> BaseProcess:
    """A process that builds the run; as Ray wants it, or else quickly."""
    context = get_context("spawn" if way[0] == "ray" else "fork")
    process: BaseProcess = context.Process(target=driver.build, args=(model, run, *way))
    return process


# The processes of each way, one after the other, and files that each writes before it ends.
WAYS = {
    "here": [(("here",), 110)],
    "processes": [(("processes", "2"), 110)],
    "parts": [*((("task", str(n), str(TASKS)), 20) for n in range(TASKS)), (("finish",), 30)],
    "ray": [(("ray", "local"), 110)],
}


def disturbed(way: str, model: Path, run: Path, kills: int, draw: random.Random) -> int:
    """Build a run by processes that are killed so often in all; how many were killed at work."""
    killed = 0
    for number, (words, files) in enumerate(WAYS[way]):
        times = len(range(number, kills, len(WAYS[way])))
        for _ in range(times):
            killed += killed_at(life(model, run, words), run, draw.randint(1, files // times))
        last = life(model, run, words)
        last.start()
        last.join()
        assert last.exitcode == 0
    return killed


@pytest.mark.parametrize(
    ("way", "kills"),
    [
        ("here", 5),
        pytest.param("processes", 1, marks=pytest.mark.slow),
        ("parts", 5),
        pytest.param("ray", 1, marks=(RAY, pytest.mark.slow)),
    ],
)
def test_killed_at_a_few_moments_it_ends_with_the_same_bytes(
    way: str, kills: int, model_folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    assert disturbed(way, model_folder, tmp_path / "run", kills, random.Random(0)) > kills // 2
    assert contents(tmp_path / "run") == whole


@pytest.mark.slow
@pytest.mark.parametrize("way", ["here", "processes", "parts", pytest.param("ray", marks=RAY)])
def test_killed_at_fifty_moments_it_ends_with_the_same_bytes(
    way: str, model_folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    draw, killed = random.Random(0), 0
    while killed < 50:
        killed += disturbed(way, model_folder, tmp_path / "run", 5, draw)
        assert contents(tmp_path / "run") == whole, f"after {killed} kills"
        print(f"{way}: {killed} killed at work, the same bytes")
        shutil.rmtree(tmp_path / "run")
