"""Every reader, of URLs: the records, errors and fingerprint of the file of the same bytes."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from tests.stores import empty

from proponent.corpus import Corpus, Queries, read_facts, records
from proponent.errors import InputError
from proponent.remote import is_url, opened, require_local

MEMORY = fsspec.filesystem("memory")
LINES = b"".join(b'{"id": "p%d", "text": "passage %d"}\n' % (n, n) for n in range(30))
TABLE = b"id,text\n" + b"".join(b'p%d,"passage\n%d"\n' % (n, n) for n in range(30))
FACT = (
    b'{"fact_id": "f0", "entity0": "France", "relation": "capital", "entity1": "Paris", '
    b'"entity0_uri": "Q142", "predicate_uri": "P36", "entity1_uri": "Q90", '
    b'"prompt0": "The capital of France is"}\n'
)


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["one", "two"], "more": [1, 2]}), sink)
    return bytes(sink.getvalue())


FILES = {
    "lines.jsonl": LINES,
    "lines.jsonl.gz": gzip.compress(LINES, mtime=0),
    "lines.jsonl.zst": bytes(pa.compress(LINES, codec="zstd", asbytes=True)),
    "lines.jsonl-00000-of-00002": LINES,
    "table.csv": TABLE,
    "table.tsv": TABLE.replace(b",", b"\t"),
    "text.txt": "eins\r\n\nzwei ä".encode(),
    "rows.parquet": parquet(),
}


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    empty()
    yield
    empty()


def both(tmp_path: Path, name: str, content: bytes) -> tuple[Path, str]:
    """The same bytes as a file and in a store."""
    (tmp_path / name).write_bytes(content)
    MEMORY.pipe_file(f"memory://bucket/{name}", content)
    return tmp_path / name, f"memory://bucket/{name}"


def complaint(read: Any, place: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        list(read(place))
    return str(caught.value).replace(str(place), "PLACE")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("text_as", ["lines", "documents"])
def test_passages_places_and_fingerprint_are_those_of_the_file(
    name: str, text_as: str, tmp_path: Path
) -> None:
    path, url = both(tmp_path, name, FILES[name])
    local, remote = (Corpus.read(place, text_as=text_as) for place in (path, url))
    assert [(e.id, e.text) for e in remote] == [(e.id, e.text) for e in local]
    places = [e.place.replace(url, str(path)) for e in remote]
    assert places == [e.place for e in local]
    assert remote.survey().fingerprint == local.survey().fingerprint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"id": "a", "text": "one"}\n{"id": '),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9]),
        ("a.jsonl.zst", FILES["lines.jsonl.zst"][:-3]),
        ("a.csv", b"id,text\na,b,c\n"),
        ("a.txt", b"good\nb\xffad\n"),
        ("a.parquet", parquet()[:-20]),
        ("a.jsonl", b'{"id": "a"}\n'),
        ("a.xml", b"<a/>"),
    ],
)
def test_what_is_wrong_is_said_in_the_same_words(name: str, content: bytes, tmp_path: Path) -> None:
    path, url = both(tmp_path, name, content)
    assert complaint(Corpus.read, url) == complaint(Corpus.read, path)


def test_bounds_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORD", 100)
    for name, content in (
        ("a.jsonl", b'{"text": "' + b"x" * 200 + b'"}\n'),
        ("a.txt.gz", gzip.compress(b"x\n" * 100_000, mtime=0)),
    ):
        path, url = both(tmp_path, name, content)
        assert complaint(Corpus.read, url) == complaint(Corpus.read, path)
        assert "more than" in complaint(Corpus.read, url)


def test_a_pattern_is_its_files_in_their_order(tmp_path: Path) -> None:
    for folder in ("b", "a"):
        MEMORY.pipe_file(f"memory://bucket/{folder}/x.jsonl", b'{"text": "%s"}\n' % folder.encode())
    MEMORY.pipe_file("memory://bucket/a/x.csv", b"")
    found = [(e.id, e.text) for e in Corpus.read("memory://bucket/*/*.jsonl")]
    assert found == [("a/x.jsonl:1", "a"), ("b/x.jsonl:1", "b")]
    with pytest.raises(InputError, match="given 2 times"):
        Corpus.read("memory://bucket/a/x.jsonl", "memory://bucket/a/x.jsonl")


def test_queries_and_facts(tmp_path: Path) -> None:
    path, url = both(tmp_path, "facts.jsonl", FACT)
    assert read_facts(url) == read_facts(path)
    ours, theirs = Queries.read(url), Queries.read(path)
    assert [(q.id, q.prompt, q.target, q.fields) for q in ours] == [
        (q.id, q.prompt, q.target, q.fields) for q in theirs
    ]
    assert ours[0].place == f"{url}:1"


def test_what_is_not_there_is_named() -> None:
    MEMORY.pipe_file("memory://bucket/a/x.jsonl", LINES)
    for url, said in (
        ("memory://bucket/nothing.jsonl", "no such file, and no file matches"),
        ("memory://bucket/*.csv", "no such file, and no file matches"),
        ("memory://bucket/a", "a folder; name its files, by a pattern such as memory://bucket/a/*.jsonl"),
        ("nowhere://bucket/a.jsonl", "not an address that can be used"),
    ):
        with pytest.raises(InputError, match="^" + url.replace("*", r"\*")) as caught:
            Corpus.read(url)
        assert said in str(caught.value)


def test_a_store_that_fails_midway_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    MEMORY.pipe_file("memory://bucket/a.jsonl", LINES)
    corpus = Corpus.read("memory://bucket/a.jsonl")

    class Cut:
        """A file whose store is gone."""

        def read(self, _: int) -> bytes:
            raise RuntimeError("connection lost\nand more")

        def seekable(self) -> bool:
            return True

        def close(self) -> None:
            pass

    monkeypatch.setattr(MemoryFileSystem, "open", lambda *_: Cut())
    with pytest.raises(
        InputError, match=r"^memory://bucket/a.jsonl: cannot be read \(connection lost\); check"
    ):
        list(corpus)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(InputError, match=r"pip install 'proponent\[s3\]'"):
        opened("s3://bucket/a.jsonl")
    with pytest.raises(InputError, match="Install s3fs to access S3"):
        opened("abfs://bucket/a.jsonl")


def test_names_that_are_urls() -> None:
    assert all(map(is_url, ("s3://b/a", "hf://datasets/o/n/a.jsonl", "simplecache::s3://b/a", "gs://b")))
    assert not any(map(is_url, ("a/b", "/a", "hf:owner/name", "C://a", "a:b", "")))
    for name in ("s3://bucket/model", Path("s3://bucket/model")):
        with pytest.raises(InputError, match="no bucket here"):
            require_local(name, "no bucket here")
    require_local("models/tiny", "")
