"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import xxhash

from proponent.errors import InputError
from proponent.files import (
    CHECKSUM_BYTES,
    aside,
    checksum,
    is_aside,
    read_checksummed_json,
    read_json,
    write_checksummed_json,
    write_json,
    written_whole,
)
from proponent.index.storage import text_column, write_table, write_tensors

WRITERS: dict[str, Callable[[Path], None]] = {
    "json": lambda path: write_json(path, {"a": "x" * 100_000}),
    "tensors": lambda path: write_tensors(path, {"a": torch.ones(100_000)}),
    "table": lambda path: write_table(path, {"id": text_column([str(n) for n in range(100_000)])}),
}


class Killed(BaseException):
    """Not an Exception: nothing that handles errors may swallow it."""


def write_half(path: Path, error: type[BaseException]) -> None:
    with written_whole(path) as part:
        part.write_text("half of it")
        raise error


@pytest.mark.parametrize("error", [ValueError, Killed, KeyboardInterrupt])
def test_a_crash_while_writing_leaves_the_old_file_and_no_other(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "folder" / "file"
    write_json(path, {"old": 1})
    with pytest.raises(error):
        write_half(path, error)
    assert read_json(path) == {"old": 1}
    assert list(path.parent.iterdir()) == [path]


def test_nothing_can_be_read_before_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with written_whole(path) as part:
        part.write_text("whole")
        assert not path.exists()
        assert part.parent == path.parent, "a rename is whole only inside one file system"
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_the_bytes_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, str]] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((name, ",".join(sorted(os.listdir(tmp_path)))))
        sync(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to tell which file is synced")
    monkeypatch.setattr(os, "fsync", note)
    write_json(tmp_path / "file", {})
    (part, beside), folder = synced
    assert part == beside
    assert is_aside(tmp_path / part)
    assert folder == (tmp_path.name, "file")


def test_two_writers_of_one_file_do_not_share_what_they_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with written_whole(path) as first:
        first.write_text("half of the fir")
        write_json(path, {"second": 2})
        assert read_json(path) == {"second": 2}
        first.write_text("first")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_can_be_told_and_harms_no_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    left = aside(path)
    left.write_text("from an earlier life, and longer than what comes now")
    write_json(path, {"new": 2})
    assert read_json(path) == {"new": 2}
    assert set(tmp_path.iterdir()) == {path, left}
    assert [is_aside(found) for found in (left, path)] == [True, False]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_that_is_really_full(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    path = tmp_path / "file"
    full = tmp_path / ".file.part"
    full.symlink_to("/dev/full")
    monkeypatch.setattr("proponent.files.aside", lambda _: full)
    with pytest.raises(InputError, match=r"file: no space left on the disk; free some"):
        WRITERS[kind](path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_found_full_when_syncing(
    kind: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="no space left"):
        WRITERS[kind](path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_of_the_system_are_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), written_whole(tmp_path / "file"):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.parametrize("size", [0, 1, 256 * 5000, CHECKSUM_BYTES, 2 * CHECKSUM_BYTES + 1])
def test_checksums_are_xxh3_of_the_bytes(tmp_path: Path, size: int) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    (tmp_path / "file").write_bytes(content)
    assert checksum(tmp_path / "file") == xxhash.xxh3_128_hexdigest(content)


def test_files_can_be_read_by_whom_the_user_lets(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    for kind, write in WRITERS.items():
        write(tmp_path / kind)
        assert (tmp_path / kind).stat().st_mode == (tmp_path / "usual").stat().st_mode, kind


@pytest.mark.parametrize(
    "content",
    [
        b"[1]",
        b'{"a":',
        b'{"a": "\xff"}',
    ],
)
def test_files_that_hold_no_json_object_are_damaged(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"file: .*damaged.*; build the run again"):
        read_json(path)


def test_half_a_surrogate_pair_is_written_as_its_escape(tmp_path: Path) -> None:
    """As a path has one that holds bytes which are no UTF-8."""
    value = {"model": "m\udcff", "é": "\\ud800"}
    write_json(tmp_path / "file", value)
    assert read_json(tmp_path / "file") == value


def test_a_file_with_its_own_checksum_tells_when_it_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    value = {"rows": 12, "shards": [5, 7], "é": {"b": None}}
    write_checksummed_json(path, value)
    assert read_checksummed_json(path) == value
    path.write_text(path.read_text().replace("12", "13"))
    with pytest.raises(InputError, match=r"file: damaged \(its checksum differs\)"):
        read_checksummed_json(path)
