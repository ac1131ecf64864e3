"""A bucket of an S3 server on this machine, and commands that share nothing but that."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from tests.cli.processes import ENVIRONMENT
from tests.cli.running import SMALL, Answer, Made
from tests.runs import contents

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (find_spec("moto") and find_spec("s3fs")), reason="no S3 server or client"),
]


@dataclass(frozen=True)
class Bucket:
    """An S3 server with a bucket, as the environment of commands names it, and the commands that were run."""

    environment: dict[str, str]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, cache: Path, *arguments: str | Path, **more: str) -> Answer:
        """A command in a process of its own, with a cache of its own."""
        process = self.start(cache, *arguments, **more)
        out, err = process.communicate(timeout=1800)
        return Answer(process.returncode, out, err)

    def start(self, cache: Path, *arguments: str | Path, **more: str) -> subprocess.Popen[str]:
        environment = {**self.environment, "PROPONENT_CACHE": str(cache), **more}
        command = [sys.executable, "-m", "proponent", *map(str, arguments)]
        pipe = subprocess.PIPE
        self.processes.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True))
        return self.processes[-1]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("server") / "log").open("w")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                with urlopen(Request(f"{address}/bucket", method="PUT")):
                    break
            except URLError:
                time.sleep(0.1)
        names = {"AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1", "OMP_NUM_THREADS": "1"}
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        made = Bucket({**ENVIRONMENT, **names, **keys})
        yield made
        for process in made.processes:
            process.kill()
            process.communicate()
    finally:
        server.kill()
        server.wait()
        log.close()


@pytest.fixture(scope="module")
def stored(bucket: Bucket, made: Made, tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    """The corpus and the facts in the bucket."""
    code = "import fsspec, sys; fsspec.filesystem('s3').put(sys.argv[1:], 'bucket/')"
    words = [str(made.corpus), str(made.facts)]
    subprocess.run([sys.executable, "-c", code, *words], env=bucket.environment, check=True)
    return bucket


@pytest.fixture(scope="module")
def local(stored: Bucket, made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the same command in a folder."""
    folder = tmp_path_factory.mktemp("local")
    done = stored.run(folder / "cache", "index", made.corpus, folder / "run", "--model", made.model, *SMALL)
    assert done.code == 0, done
    return folder / "run"


def objects(bucket: Bucket, run: str, folder: Path) -> dict[str, bytes]:
    """Every object below a URL, as the store itself has it."""
    code = "import fsspec, sys; fsspec.filesystem('s3').get(*sys.argv[1:], recursive=True)"
    subprocess.run([sys.executable, "-c", code, f"{run}/", f"{folder}/"], env=bucket.environment, check=True)
    return contents(folder)


def test_tasks_and_finish_on_machines_that_share_nothing_else(
    stored: Bucket, made: Made, local: Path, tmp_path: Path
) -> None:
    index = ["index", "s3://bucket/corpus.jsonl", "s3://bucket/run", "--model", made.model, *SMALL]
    second = stored.start(tmp_path / "one", *index, "--task", "1/2")  # waits for the other
    first = stored.run(tmp_path / "zero", *index, "--task", "0/2")
    assert first.out == "s3://bucket/run: part 0/2 is done, 1 shards made; when all parts are: --finish\n"
    out, err = second.communicate(timeout=1800)
    assert second.returncode == 0, err
    assert "waiting for part 0" in err
    assert out.startswith("s3://bucket/run: part 1/2 is done")
    unfinished = stored.run(tmp_path / "three", "trace", "s3://bucket/run", made.facts)
    unfinished.assert_refused("s3://bucket/run: this run is unfinished")
    finished = stored.run(tmp_path / "two", *index, "--finish")
    assert finished.code == 0, finished
    assert objects(stored, "s3://bucket/run", tmp_path / "got") == contents(local)
    ask = ["-k", "2", "--device", "cpu", "--json"]
    there = stored.run(tmp_path / "three", "trace", "s3://bucket/run", "s3://bucket/facts.jsonl", *ask)
    here = stored.run(tmp_path / "three", "trace", local, made.facts, *ask)
    answers = [[json.loads(line) for line in answer.out.splitlines()] for answer in (there, here)]
    assert [{**line, "run": ""} for line in answers[0]] == [{**line, "run": ""} for line in answers[1]]
    assert len(answers[0]) == 2
    checked = stored.run(tmp_path / "four", "check", "s3://bucket/run")
    assert checked.out == f"s3://bucket/run: sound, {len(contents(local)) - 1} files\n", checked


def test_processes_and_two_machines_at_once(stored: Bucket, made: Made, local: Path, tmp_path: Path) -> None:
    index = ["index", made.corpus, "s3://bucket/both", "--model", made.model, *SMALL]
    others = [stored.start(tmp_path / name, *index, "--workers", "1") for name in ("a", "b")]
    said = [other.communicate(timeout=1800)[1] for other in others]
    assert 0 in [other.returncode for other in others], said
    again = stored.run(tmp_path / "c", *index)
    assert again.code == 0, (again, said)
    assert objects(stored, "s3://bucket/both", tmp_path / "got") == contents(local)


@pytest.mark.skipif(not find_spec("ray"), reason="needs Ray")
def test_workers_on_ray_build_and_search_in_a_bucket(
    stored: Bucket, made: Made, local: Path, tmp_path: Path
) -> None:
    index = ["index", "s3://bucket/corpus.jsonl", "s3://bucket/ray", "--model", made.model, *SMALL]
    done = stored.run(tmp_path / "a", *index, "--ray", "local")
    assert done.code == 0, done
    assert objects(stored, "s3://bucket/ray", tmp_path / "got") == contents(local)
    ask = ["trace", "s3://bucket/ray", "s3://bucket/facts.jsonl", "-k", "2", "--device", "cpu", "--json"]
    there, here = stored.run(tmp_path / "b", *ask, "--ray", "local"), stored.run(tmp_path / "c", *ask)
    assert there.code == here.code == 0, there
    assert there.out == here.out


def test_the_live_view_asks_over_a_run_in_a_bucket(
    stored: Bucket, made: Made, local: Path, tmp_path: Path
) -> None:
    copied = "import fsspec, sys; fsspec.filesystem('s3').put(*sys.argv[1:], recursive=True)"
    words = [f"{local}/", "s3://bucket/viewed/"]
    subprocess.run([sys.executable, "-c", copied, *words], env=stored.environment, check=True)
    view = ["view", "s3://bucket/viewed", "--port", "0", "--no-browser", "--device", "cpu"]
    process = stored.start(tmp_path / "a", *view)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    asked = {"prompt": "The capital of France is", "target": "Paris", "method": "trackstar", "k": 2}
    found = answered(address, "api/traces", asked)
    while found.get("state") != "done":
        assert found.get("state") in (None, "queued", "running"), found
        time.sleep(0.2)
        found = answered(address, f"api/traces/{found['id']}")
    ask = ["--prompt", asked["prompt"], "--target", asked["target"], "-k", "2", "--device", "cpu", "--json"]
    here = json.loads(stored.run(tmp_path / "b", "trace", local, *ask).out)
    row = found["row"]
    assert row["proponent_ids"] == here["proponent_ids"]
    assert row["proponent_scores"] == pytest.approx(here["proponent_scores"], abs=1e-6)


def answered(address: str, path: str, asked: dict[str, object] | None = None) -> dict[str, Any]:
    """What the server says, with the id of the trace."""
    data = None if asked is None else json.dumps(asked).encode()
    with urlopen(Request(address + path, data, {"content-type": "application/json"})) as answer:
        said: dict[str, Any] = json.load(answer)
    return {"id": path.rpartition("/")[2], **said}


def test_what_cannot_be_reached_is_one_line(stored: Bucket, made: Made, tmp_path: Path) -> None:
    index = ["index", made.corpus, "s3://nowhere/run", "--model", made.model, *SMALL]
    stored.run(tmp_path, *index).assert_refused("s3://nowhere/run", "bucket does not exist")
    stored.run(tmp_path, "info", "s3://bucket/nothing").assert_refused("s3://bucket/nothing")
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    none |= {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    index[2] = "s3://bucket/run2"
    stored.run(tmp_path, *index, **none).assert_refused("s3://bucket/run2", "redentials")
    closed = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    stored.run(tmp_path, "check", "s3://bucket/run", **closed).assert_refused(
        "s3://bucket/run", "cannot be read"
    )
