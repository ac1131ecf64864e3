"""Which files the server opens and what it makes of them; where it listens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from proponent.errors import InputError
from proponent.viewer.app import create_app
from proponent.viewer.results import open_results
from proponent.viewer.server import bound

OPENED: list[str] = []
WATCHING = [False]


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHING[0] and event in ("open", "os.listdir", "os.scandir"):
        OPENED.append(str(arguments[0]))


sys.addaudithook(_watch)  # for good: a hook cannot be taken away, so it is silent while nobody asks


@contextmanager
def files_opened() -> Iterator[list[str]]:
    """The paths that this process opens or lists meanwhile."""
    OPENED.clear()
    WATCHING[0] = True
    try:
        yield OPENED
    finally:
        WATCHING[0] = False


# --- no path from a request reaches the file system -------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/....//....//etc/passwd",
        "//etc/passwd",
        "/page/../app.py",
        "/app.py",
        "/..\\..\\app.py",
        "/index.html%00.js",
        "/api/files/..%2f..%2fapp.py",
        "/api/files/%2fetc%2fpasswd",
        "/api/files/0%00",
        "/api/files/99999999999999999999999",
        "/api/traces/..%2f..%2fetc",
        "/?token=../../etc/passwd",
    ],
)
def test_a_path_opens_no_file(path: str, client: TestClient) -> None:
    client.get("/api/state")  # whatever is loaded late is loaded now
    with files_opened() as opened:
        answer = client.get(path)
    assert "root:" not in answer.text
    assert "def create_app" not in answer.text
    assert answer.status_code in (200, 400, 404)
    if answer.status_code == 200:
        assert path.startswith("/?")
    assert opened == []


def test_only_the_files_that_were_named_are_opened(client: TestClient, hits_file: Path) -> None:
    client.get("/api/files/0")
    with files_opened() as opened:
        client.get("/api/files/0?path=/etc/passwd&name=x")
    assert opened == [str(hits_file)]


# --- files and sockets that cannot be used ----------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such result file or run"),
        ("", "empty; give a file that"),
        ("{", "r.jsonl:1: not JSON"),
        ('{"text": "a passage"}', "r.jsonl:1: no result: it needs the fields 'inputs_plaintext'"),
        ('{"inputs_plaintext": "a", "proponents": "b"}', "r.jsonl:1: no result"),
    ],
)
def test_what_is_no_result_file_is_refused(content: str | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "r.jsonl").write_text(content)
    with pytest.raises(InputError, match=words):
        open_results([tmp_path / "r.jsonl"])


def test_files_of_one_name_are_told_apart(hits_file: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "hits.jsonl").write_bytes(hits_file.read_bytes())
    files = open_results([tmp_path / "a" / "hits.jsonl", tmp_path / "b" / "hits.jsonl"])
    assert [file.name for file in files] == ["a/hits.jsonl", "b/hits.jsonl"]


def test_numbers_that_are_none_become_null(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(
        '{"inputs_plaintext": "a", "proponents": ["b"], "proponent_scores": [NaN, 1.5, Infinity]}'
    )
    (line,) = open_results([path])[0].lines()
    assert line.endswith('"proponent_scores":[null,1.5,null]}')


def test_half_a_character_is_served_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"inputs_plaintext": "\\ud83d", "proponents": ["\\ud83d\\ude00"]}')
    with TestClient(create_app(open_results([path])), base_url="http://localhost") as client:
        line = client.get("/api/files/0").json()
    assert line == {"inputs_plaintext": "\ud83d", "proponents": ["😀"]}


def test_answers_are_let_through(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"query_id": "q", "text": "Paris", "correct": true}')
    assert list(open_results([path])[0].lines()) == ['{"query_id":"q","text":"Paris","correct":true}']


def test_a_port_that_is_taken_is_named() -> None:
    with bound("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"host '127.0.0.1', port {port}: .*; give another --port"):
            bound("127.0.0.1", port)
    with pytest.raises(InputError, match="port 65536: give a number from 0"):
        bound("127.0.0.1", 65536)
    with pytest.raises(InputError, match="give another --port"):
        bound("203.0.113.9", 0)
