from __future__ import annotations

from pathlib import Path

import pytest

from proponent.corpus.sources import read_records, resolve
from proponent.errors import InputError


def write(path: Path, text: str = "x\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(*sources: str | Path) -> list[str]:
    return [source.name for source in resolve(sources)]


def test_globs_are_sorted_and_hold_files_only(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.jsonl", "sub.txt/inner.txt"):
        write(tmp_path / name)
    assert names(f"{tmp_path}/*.txt") == ["a.txt", "b.txt"]
    assert names(f"{tmp_path}/**/*.txt") == ["a.txt", "b.txt", "inner.txt"]


def test_the_order_of_sources_is_kept(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.txt"), write(tmp_path / "b.txt")
    assert names(b, str(a)) == ["b.txt", "a.txt"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    assert names(write(tmp_path / "a[1].txt")) == ["a[1].txt"]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = [write(tmp_path / name) for name in ("x/one/p.txt", "y/one/p.txt", "z/two/p.txt", "q.txt")]
    assert names(*paths) == ["x/one/p.txt", "y/one/p.txt", "two/p.txt", "q.txt"]


def test_missing_files_and_empty_globs_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.txt: no such file or folder"):
        resolve([tmp_path / "gone.txt"])
    with pytest.raises(InputError, match=r"\*\.txt: no file matches this pattern"):
        resolve([f"{tmp_path}/*.txt"])
    with pytest.raises(InputError, match="no corpus is given"):
        resolve([])


def test_a_source_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"a\.txt: given 2 times"):
        resolve([path, f"{tmp_path}/*.txt"])
    with pytest.raises(InputError, match="hf:owner/name: given 2 times"):
        resolve(["hf:owner/name", "hf:owner/name"])


def test_hub_names_are_parsed() -> None:
    (source,) = resolve(["hf:allenai/c4:en:validation"])
    assert (source.name, source.location, source.config, source.split) == (  # type: ignore[attr-defined]
        "allenai/c4:en:validation",
        "allenai/c4",
        "en",
        "validation",
    )
    (plain,) = resolve(["hf:owner/name"])
    assert (plain.config, plain.split) == (None, None)  # type: ignore[attr-defined]
    (split_only,) = resolve(["hf:owner/name::test"])
    assert (split_only.config, split_only.split) == (None, "test")  # type: ignore[attr-defined]
    for wrong in ("hf:", "hf:a:b:c:d"):
        with pytest.raises(InputError, match="not a hub dataset"):
            resolve([wrong])


def test_records_come_with_all_fields_and_their_source(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", '{"x": 1, "y": [2]}\n')
    write(tmp_path / "b.jsonl", '{"x": 3}\n')
    read = read_records(f"{tmp_path}/*.jsonl")
    got = [(source.name, record.fields, record.number) for source, record in read]
    assert got == [("a.jsonl", {"x": 1, "y": [2]}, 1), ("b.jsonl", {"x": 3}, 1)]
