"""Two machines of a local Ray cluster build a run and search it; workers and machines are lost meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from starlette.testclient import TestClient
from tests.build import driver
from tests.build.driver import CORPUS
from tests.runs import QUERIES, contents
from tests.viewer.live.asking import traced

from proponent.attribute.method import Method
from proponent.attribute.sharded import ShardKeeper, searching_on_ray
from proponent.attribute.tracing import Tracer, trace
from proponent.build import plan
from proponent.build.indexing import build_index
from proponent.build.ray import OnRay
from proponent.corpus import Queries
from proponent.crew import Actors, connected
from proponent.errors import InputError
from proponent.index.run import Index
from proponent.progress import Silent
from proponent.viewer.app import create_app
from proponent.viewer.live import LiveRun

ray = pytest.importorskip("ray", reason="Ray is not installed")
ROOT = Path(__file__).parents[2]


class Interfering(Silent):
    """Keeps the lines that are said, and calls something once, at the first units of a stage."""

    def __init__(self, stage: str = "", interfere: Callable[[], None] = lambda: None) -> None:
        self.lines: list[str] = []
        self.lost = False
        self._stage, self._interfere = stage, interfere

    def say(self, line: str) -> None:
        self.lines.append(line)

    def stage(self, name: str, total: int | None, unit: str) -> Any:
        def advance(units: int, tokens: int = 0) -> None:
            if name == self._stage and units:
                self._stage, self.lost = "", True
                self._interfere()

        return nullcontext(advance)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two machines, each with room for one worker of one thread."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT)]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setattr(plan, "SHARD_ROWS", driver.SHARD_ROWS)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.second = made.add_node(num_cpus=1)
        with connected(made.address, 1):
            yield made
        made.shutdown()


@pytest.fixture(scope="module")
def here(cluster: Any, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The run as this process makes it."""
    path = tmp_path_factory.mktemp("here") / "run"
    return build_index(CORPUS, driver.spec(model_folder), path, "cpu")


def workers() -> dict[int, int]:
    """The machine of each process that is an actor, by their numbers."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # one that ends meanwhile
            if " ".join(child.cmdline()).startswith(("ray::Worker", "ray::ShardKeeper")):
                found[child.pid] = child.ppid()
    return found


def both_machines() -> dict[int, int]:
    """The workers, once there is one on each machine."""
    for _ in range(600):
        if len(set((found := workers()).values())) == 2:
            return found
        time.sleep(0.1)
    pytest.fail(f"workers on one machine: {found}")


def kill_a_worker() -> None:
    os.kill(min(both_machines()), signal.SIGKILL)


def test_two_machines_build_the_bytes_of_one_process_though_a_worker_is_killed(
    cluster: Any, here: Index, model_folder: Path, tmp_path: Path
) -> None:
    said = Interfering("gradients", kill_a_worker)
    build_index(CORPUS, driver.spec(model_folder), tmp_path / "run", "cpu", said, executor=OnRay("auto"))
    assert contents(tmp_path / "run") == contents(here.folder.path)
    assert "workers on Ray of 1 thread each" in said.lines


@pytest.mark.slow
def test_two_machines_search_as_this_process_does_though_a_worker_is_lost(cluster: Any, here: Index) -> None:
    asked = [("trackstar", QUERIES), ("trackstar", None), ("dot", None), ("cosine", None)]
    alone = Tracer(here, "cpu")
    expected = [list(alone.trace(QUERIES, method, 9, task)) for method, task in asked]
    with searching_on_ray(here, "auto") as shards:
        tracer = Tracer(here, "cpu", shards=shards)
        assert [list(tracer.trace(QUERIES, method, 9, task)) for method, task in asked] == expected
        kill_a_worker()
        said = Interfering()
        features = tracer.features(QUERIES)
        assert list(tracer.rank(QUERIES, features, Method.of("dot"), 9, progress=said)) == expected[2]
        assert any("its shards are loaded by others" in line for line in said.lines)
        assert list(tracer.trace(QUERIES, "cosine", 9)) == expected[3]
    assert list(trace(here, QUERIES, "cosine", 9, device="cpu", ray="auto")) == expected[3]


@pytest.mark.slow
def test_the_live_viewer_asks_workers_and_answers_as_it_does_alone(cluster: Any, here: Index) -> None:
    """A worker is lost between two questions; scores are compared to the last bit."""
    rankings: list[dict[str, Any]] = [
        {"method": "trackstar", "mix": "auto", "k": 9},
        {"method": "trackstar", "mix": 0.99, "k": 60},
        {"method": "cosine", "mix": None, "k": 9},
        {"method": "dot", "mix": None, "k": 9},
    ]

    def rows(run: LiveRun, between: Callable[[], object] = lambda: None) -> list[Any]:
        with TestClient(create_app(run=run), base_url="http://localhost") as client:
            found = []
            for query in QUERIES:
                asked = {"prompt": query.prompt, "target": query.target}
                id, row = traced(client, {**asked, **rankings[0]})
                others = [client.post(f"/api/traces/{id}/rerank", json=wanted) for wanted in rankings[1:]]
                found += [row, *(answer.json()["row"] for answer in others)]
                between()
                between = lambda: None  # noqa: E731
            return found

    alone = LiveRun(here, Queries(QUERIES), "cpu")
    with searching_on_ray(here, "auto") as shards:
        said = Interfering()
        run = LiveRun(here, Queries(QUERIES), "cpu", said, shards)
        assert run.tracer.shards is shards
        with pytest.MonkeyPatch.context() as patch:  # the rows of the index are the workers' alone
            patch.setattr(Index, "shard", lambda *_: pytest.fail("a shard was read by the server"))
            found = rows(run, kill_a_worker)
    assert found == rows(alone)


@pytest.mark.slow
def test_workers_errors_are_the_errors_of_this_process(
    cluster: Any, here: Index, model_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    class Damaging(Interfering):
        def say(self, line: str) -> None:
            if "workers on Ray" in line:
                file = run / "work" / "rows" / "00003.parquet"
                file.write_bytes(file.read_bytes()[:-9])

    with pytest.raises(InputError, match=r"rows/00003.parquet: damaged .*; remove it and run the same"):
        build_index(CORPUS, driver.spec(model_folder), run, "cpu", Damaging(), executor=OnRay("auto"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["gradients", "R_train", "factors and eigenvalues", "whitening"])
def test_workers_and_machines_lost_in_every_stage(
    stage: str, cluster: Any, here: Index, model_folder: Path, tmp_path: Path
) -> None:
    """Three builds each lose a worker, and one a machine, in whose place another comes."""

    def lose_a_machine() -> None:
        cluster.remove_node(cluster.second, allow_graceful=False)
        cluster.second = cluster.add_node(num_cpus=1)

    for number, lose in enumerate((kill_a_worker, kill_a_worker, kill_a_worker, lose_a_machine)):
        losing, run = Interfering(stage, lose), tmp_path / f"run{number}"
        build_index(CORPUS, driver.spec(model_folder), run, "cpu", losing, executor=OnRay("auto"))
        assert losing.lost, f"no {stage}"
        assert contents(run) == contents(here.folder.path), f"{stage}, build {number}"


@pytest.mark.slow
def test_many_workers_lost_between_searches(cluster: Any, here: Index) -> None:
    expected = list(Tracer(here, "cpu").trace(QUERIES, "cosine", 9))
    with searching_on_ray(here, "auto") as shards:
        tracer = Tracer(here, "cpu", shards=shards)
        for _ in range(10):  # the other has all shards then, until the next one comes
            assert list(tracer.trace(QUERIES, "cosine", 9)) == expected
            os.kill(min(workers()), signal.SIGKILL)
        assert list(tracer.trace(QUERIES, "cosine", 9)) == expected


@pytest.mark.slow
def test_a_machine_that_is_lost_is_done_without(
    cluster: Any, here: Index, model_folder: Path, tmp_path: Path
) -> None:
    """During a build, and between two searches; another that comes takes part."""
    expected = Tracer(here, "cpu").trace(QUERIES, "trackstar", 9)
    with searching_on_ray(here, "auto") as shards:
        tracer = Tracer(here, "cpu", shards=shards)
        assert list(tracer.trace(QUERIES, "trackstar", 9)) == list(expected)
        cluster.remove_node(cluster.second, allow_graceful=False)
        assert list(tracer.trace(QUERIES, "trackstar", 9)) == list(expected)
    third = cluster.add_node(num_cpus=1)
    losing = Interfering("gradients", lambda: cluster.remove_node(third, allow_graceful=False))
    build_index(CORPUS, driver.spec(model_folder), tmp_path / "run", "cpu", losing, executor=OnRay("auto"))
    assert contents(tmp_path / "run") == contents(here.folder.path)


def test_a_worker_that_no_machine_has_room_for_is_refused(cluster: Any, here: Index) -> None:
    words = r"no machine of the Ray cluster has room for a worker of 64 threads; .*OMP_NUM_THREADS"
    with pytest.raises(InputError, match=words):
        Actors(ShardKeeper, (here.folder.path, 64), 64, gpu=False).joined(1)


def test_a_method_that_reads_the_passages_is_refused(model_folder: Path, tmp_path: Path) -> None:
    spec = replace(driver.spec(model_folder), second_moment="kronecker")
    index = build_index(CORPUS, spec, tmp_path / "white", "cpu")
    with pytest.raises(InputError, match=r"reads the passages, not the index; leave out --ray"):
        trace(index, QUERIES, "exact,hessian=none", 3, ray="local")
