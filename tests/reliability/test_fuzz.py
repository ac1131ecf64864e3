"""Malformed inputs of every kind: used, or refused in one line; no traceback, no hang, nothing written."""

from __future__ import annotations

import gzip
import json
import os
import random
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient
from tests.evaluate.conftest import write_facts
from tests.index.conftest import made_up_features, write_run
from tests.models import make_model
from tests.reliability.mutations import mutated
from tests.runs import CORPUS, QUERIES, small_spec

import proponent as pp
from proponent.build.soundness import check
from proponent.corpus.records import FileSource
from proponent.errors import InputError
from proponent.evaluate.experiments.verdicts import Verdicts
from proponent.index.run import Index
from proponent.progress import Silent
from proponent.viewer.app import create_app
from proponent.viewer.live import LiveRun
from proponent.viewer.results import open_results

FEW, MANY = 40, 6000  # inputs of each kind: by default, and in the slow test
SECONDS = 60  # that one input may take
GROWTH = 1.5 * 2**30  # bytes of memory that all of a kind may add

LINES = b"".join(
    json.dumps({"id": f"p{n}", "text": f"Text {n}, with \u00e9 and \u6771.", "n": n}).encode() + b"\n"
    for n in range(6)
)
TABLE = b'id,text\np0,"quoted, with\na line end"\np1,plain\np2,"a ""quote"""\n'
HIT = {
    "example_id": "q",
    "query_set": "s",
    "inputs_plaintext": "The capital is",
    "targets_plaintext": "Paris",
    "proponents": ["a", "b"],
    "proponent_ids": ["1", "2"],
    "proponent_scores": [0.5, 0.25],
    "opponents": ["c"],
    "opponent_ids": ["3"],
    "opponent_scores": [-0.5],
    "proponent_correct": [True, False],
    "proponent_tokens": [[["a", 0.5]], None],
    "proponent_duplicates": [["9"], []],
    "proponent_adds": [0.1, 0.0],
    "method": "trackstar",
    "mix": 0.5,
    "run": "r",
}
HITS = json.dumps(HIT).encode() + b"\n"
VERDICT = {"passage": "a", "statement": "b", "judge": "j", "score": 0.5, "window": "w"}
PAIRS = b"".join(
    json.dumps({"query_id": "q", "passage_id": id, "label": label}).encode() + b"\n"
    for id, label in (("p", 1), ("r", 0))
)
QUERY = b'{"id": "q", "prompt": "The capital is", "target": "Paris"}\n'


class Judge:
    """Of whom nothing is asked."""

    identity = "j"

    def windows(self, pair: object) -> list[str]:
        return []

    def scores(self, pairs: object) -> list[float]:
        return []


@dataclass(frozen=True)
class Kind:
    """A sound input with the name of its file, and what reads it."""

    name: str
    sound: bytes
    read: Callable[[Path], object]


def records(path: Path) -> object:
    return list(FileSource(path, path.name).records((), ()))


def passages(path: Path) -> object:
    return list(pp.Corpus.read(path))


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ["a", "b", "c"], "text": ["one", "two", "three"]}), sink)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)  # type: ignore[no-any-return]


def facts() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_facts(Path(folder) / "facts.jsonl").read_bytes()[:1200].rpartition(b"\n")[0] + b"\n"


def verdicts(path: Path) -> object:
    return Verdicts(Judge(), path).of([], Silent())


SPEC = json.dumps(pp.FeatureSpec("model").to_dict()).encode()


def spec(path: Path) -> object:
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return pp.FeatureSpec.from_dict(values) if isinstance(values, dict) else None


KINDS = (
    Kind("corpus.jsonl", LINES, passages),
    Kind("corpus.csv", TABLE, passages),
    Kind("corpus.tsv", TABLE.replace(b",", b"\t"), passages),
    Kind("corpus.txt", b"one\ntwo\n\nthree \xc3\xa9\n", passages),
    Kind("corpus.parquet", parquet(), passages),
    Kind("corpus.jsonl.gz", gzip.compress(LINES, mtime=0), passages),
    Kind("corpus.jsonl.zst", zstd(LINES), passages),
    Kind("facts.jsonl", facts(), pp.Queries.read),
    Kind("gold.jsonl", facts(), pp.Gold.read),
    Kind("pairs.jsonl", PAIRS, pp.Gold.read),
    Kind("queries.jsonl", QUERY, pp.Queries.read),
    Kind("hits.jsonl", HITS, pp.Attribution.read),
    Kind("shown.jsonl", HITS, lambda path: [list(file.lines()) for file in open_results([path])]),
    Kind("answers.jsonl", b'{"query_id": "q", "correct": true}\n', lambda path: open_results([path])),
    Kind("verdicts.jsonl", json.dumps(VERDICT).encode() + b"\n", verdicts),
    Kind("spec.json", SPEC, spec),
)


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """A test that hangs is ended by a signal."""

    def late(*_: object) -> None:
        raise AssertionError(f"an input took more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refused(read: Callable[[], object], what: object) -> bool:
    """Whether an input is refused, in one line; an AssertionError for any other end but an answer."""
    signal.alarm(SECONDS)
    try:
        read()
    except InputError as error:
        said = str(error)
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    else:
        return False
    finally:
        signal.alarm(0)
    assert "\n" not in said, what
    return True


def fuzz(kind: Kind, folder: Path, times: int, first: int = 0) -> int:
    """Read so many malformed inputs of a kind; how many of them were refused."""
    path, count, before = folder / kind.name, 0, peak()
    for seed in range(first, first + times):
        content = mutated(kind.sound, random.Random(seed))
        path.write_bytes(content)
        count += refused(lambda: kind.read(path), f"{kind.name}, seed {seed}: {content[:300]!r}")
        assert os.listdir(folder) == [kind.name], f"{kind.name}, seed {seed}: something was written"
        if kind.name != "verdicts.jsonl":  # a line that is cut short at the end is mended
            assert path.read_bytes() == content
    assert peak() - before < GROWTH
    return count


def peak() -> int:
    """The most bytes of memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_readers(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    path.write_bytes(kind.sound)
    assert not refused(lambda: kind.read(path), "what is sound")
    assert fuzz(kind, tmp_path, FEW) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_readers_with_many_inputs(kind: Kind, tmp_path: Path) -> None:
    print(f"{kind.name}: {fuzz(kind, tmp_path, MANY, first=FEW)} of {MANY} refused")


def opened(path: Path) -> None:
    """All that a trace and `info` read of a run."""
    index = Index(path)
    _ = index.whitening, index.moments, index.sides, index.spectrum()
    _ = list(index.hessian()), list(index.shards()), index.passages(range(len(index)))


def fuzz_run(folder: Path, times: int, first: int = 0) -> int:
    """Damage a run so many times, a file at a time; every damage must be refused, and named by a check."""
    run = write_run(folder / "run", made_up_features())
    sound = {path: path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()}
    names, count = list(sound), 0
    for seed in range(first, first + times):
        chosen = random.Random(seed)
        path = names[seed % len(names)]
        content = mutated(sound[path], chosen)
        if content == sound[path]:
            continue
        path.write_bytes(content)
        name = path.relative_to(run.path).as_posix()
        found = refused(lambda: opened(run.path), f"{name}, seed {seed}")
        assert found or name == "done.json", f"{name}, seed {seed}: damage was not seen"
        named = {finding.file for finding in check(run.path).findings}
        assert not found or named & {name, "run.json"}, f"{name}, seed {seed}: only {named}"
        count += found
        path.write_bytes(sound[path])
        assert {p: p.read_bytes() for p in sound} == sound
    shutil.rmtree(run.path)
    return count


def test_runs(tmp_path: Path) -> None:
    assert fuzz_run(tmp_path, 2 * FEW) > FEW


@pytest.mark.slow
def test_runs_with_many_damages(tmp_path: Path) -> None:
    print(f"runs: {fuzz_run(tmp_path, 2000, first=2 * FEW)} of 2000 refused")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> LiveRun:
    folder = tmp_path_factory.mktemp("live")
    spec = small_spec(make_model(folder / "model"))
    pp.build_index(CORPUS, spec, folder / "run", "cpu")
    return LiveRun(folder / "run", pp.Queries(QUERIES), "cpu")


def fuzz_server(live: LiveRun, times: int, first: int = 0) -> int:
    """Send so many malformed requests to a server; each is answered with a status below 500."""
    refused = 0
    body = json.dumps({"prompt": "a", "target": "b", "method": "trackstar", "mix": "auto", "k": 4}).encode()
    with TestClient(create_app(run=live), base_url="http://localhost:8321") as client:
        for seed in range(first, first + times):
            chosen = random.Random(seed)
            path = mutated(b"/api/traces/abc/rerank", chosen) if seed % 2 else b"/api/traces"
            address = "/" + "".join(f"%{byte:02x}" for byte in path.lstrip(b"/")[:4000])
            header = mutated(b"application/json", chosen) if seed % 3 == 0 else b"application/json"
            headers: dict[str, Any] = {"content-type": header.replace(b"\r", b"").replace(b"\n", b"")}
            answer = client.request(
                chosen.choice(("POST", "GET", "DELETE", "PUT")),
                address,
                content=mutated(body, chosen)[: 2**17],
                headers=headers,
            )
            assert answer.status_code < 500, (seed, answer.text)
            refused += answer.status_code >= 400
    return refused


def test_requests(live: LiveRun) -> None:
    assert fuzz_server(live, FEW) > FEW / 2


@pytest.mark.slow
def test_many_requests(live: LiveRun) -> None:
    print(f"requests: {fuzz_server(live, 2000, first=FEW)} of 2000 refused")


@pytest.mark.parametrize(("name", "seed"), [("corpus.csv", 116), ("corpus.tsv", 116)])
def test_what_once_broke_something(name: str, seed: int, tmp_path: Path) -> None:
    """A column name with a line end, which made an error of two lines."""
    (kind,) = (kind for kind in KINDS if kind.name == name)
    assert fuzz(kind, tmp_path, 1, first=seed) == 1
