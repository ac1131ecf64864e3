"""Malformed inputs of every kind: used, or refused in one line; no traceback, no hang, nothing written."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.cli.processes import ENVIRONMENT, python
from tests.reliability.kinds import RECIPE, Kind, fuzz, kinds, line, peak, refused

FEW, MANY = 24, 5000  # inputs of each kind: by default, and in the slow test
NAMES = (
    *("corpus.jsonl", "corpus.csv", "corpus.tsv", "corpus.txt", "corpus.parquet", "corpus.jsonl.gz"),
    *("corpus.jsonl.zst", "facts.jsonl", "gold.jsonl", "sentences.jsonl", "pairs.jsonl", "queries.jsonl"),
    *("hits.jsonl", "shown.jsonl", "answers.jsonl", "predictions.jsonl", "verdicts.jsonl", "effects.jsonl"),
    *("truth.jsonl", "losses.jsonl", "spec.json", "pretrain.json", "table.csv"),
)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    found = {kind.name: kind for kind in kinds(tmp_path_factory.mktemp("kinds"))}
    assert tuple(found) == NAMES
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where nothing is but what is read."""
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


@pytest.mark.parametrize("name", NAMES)
def test_readers(name: str, known: dict[str, Kind], folder: Path) -> None:
    path = folder / name
    path.write_bytes(known[name].sound)
    assert not refused(lambda: known[name].read(path), "what is sound")
    assert fuzz(known[name], folder, FEW) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_readers_with_many_inputs(name: str, known: dict[str, Kind], folder: Path) -> None:
    before = peak()
    found = fuzz(known[name], folder, MANY, first=FEW)
    print(f"{name}: {found} of {MANY} refused, {(peak() - before) / 2**20:.0f} MiB more")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_readers_with_guided_inputs(name: str) -> None:
    paths = [str(Path(__file__).parents[2]), ENVIRONMENT["PYTHONPATH"], *sys.path]
    script, env = Path(__file__).with_name("guided.py"), {"PYTHONPATH": os.pathsep.join(paths)}
    done = python(str(script), name, "--runs", f"{MANY}", env={**ENVIRONMENT, **env})
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Done {MANY} runs" in done.stderr


# Of each kind of fault that was found one: an error of two lines, numbers and lists where text was expected,
# numbers that no float holds, missing fields, nesting, what is not UTF-8, and an empty table.
BROKEN = [
    ("corpus.csv", b'id,"te\nxt"\np0,a\n'),
    ("corpus.tsv", b'id\t"te\nxt"\np0\ta\n'),
    ("spec.json", b'{"model": 9223372036854775808}'),
    ("predictions.jsonl", b'{"query_id": [], "text": "", "correct": true, "share": 0.5}\n'),
    ("truth.jsonl", b'{"training": [], "without": "", "log_p": []}\n'),
    ("effects.jsonl", b'{"query": "q", "passage": "p", "points": 1' + b"0" * 400 + b"}\n"),
    ("losses.jsonl", b'{"training": "t"}\n'),
    ("verdicts.jsonl", b"[" * 100_000 + b"\n"),
    ("pretrain.json", line(RECIPE).replace(b'"batch": 4', b'"batch": 0')),
    ("table.csv", b""),
    ("table.csv", b"method\nBM25 \x85\n"),
]


@pytest.mark.parametrize(("name", "content"), BROKEN)
def test_what_once_broke_something(name: str, content: bytes, known: dict[str, Kind], folder: Path) -> None:
    (folder / name).write_bytes(content)
    assert refused(lambda: known[name].read(folder / name), content)
    assert [path.name for path in folder.iterdir()] == [name]
