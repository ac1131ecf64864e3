"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from proponent.errors import InputError
from proponent.files import (
    checksum,
    is_aside,
    read_json,
    read_sealed_json,
    write_json,
    write_sealed_json,
    written_whole,
)
from proponent.index.storage import (
    Layout,
    like,
    read_columns,
    read_table,
    read_tensor,
    read_tensors,
    tensors_written,
    write_table,
    write_tensors,
)

WRITERS: dict[str, Callable[[Path], None]] = {
    "json": lambda path: write_json(path, {"a": "x" * 100_000}),
    "tensors": lambda path: write_tensors(path, {"a": torch.ones(100_000)}),
    "table": lambda path: write_table(path, {"id": [str(n) for n in range(100_000)]}),
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


def test_checksums_are_sha256_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert checksum(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"turned": whole.T, "half": whole.half(), "view": whole[1:2]}
    write_tensors(tmp_path / "file", tensors)
    found = read_tensors(tmp_path / "file")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_the_same_values_give_the_same_bytes(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", {"x": torch.ones(3), "y": torch.zeros(2)})
    write_tensors(tmp_path / "b", {"y": torch.zeros(2), "x": torch.ones(3)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_written_one_at_a_time_give_the_same_bytes(tmp_path: Path) -> None:
    tensors = {"codes": torch.ones(3, 5).half(), "scale": torch.arange(3.0), "sums": torch.zeros(2).double()}
    write_tensors(tmp_path / "whole", tensors)
    with tensors_written(tmp_path / "parts", {name: like(value) for name, value in tensors.items()}) as put:
        for name in ("scale", "sums", "codes"):
            put(name, tensors[name])
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()


@pytest.mark.parametrize("given", [{"x": torch.ones(3)}, {"x": torch.ones(3), "y": torch.zeros(3)}])
def test_tensors_that_are_missing_or_of_another_shape_leave_no_file(
    tmp_path: Path, given: dict[str, torch.Tensor]
) -> None:
    layouts = {"x": Layout(torch.float32, (3,)), "y": Layout(torch.float32, (2,))}

    def write() -> None:
        with tensors_written(tmp_path / "file", layouts) as put:
            for name, value in given.items():
                put(name, value)

    with pytest.raises(ValueError, match="y"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_parts_of_a_file_can_be_read_alone(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    write_tensors(tmp_path / "file", {"a": whole, "b": torch.zeros(0, 4)})
    assert torch.equal(read_tensor(tmp_path / "file", "a"), whole)
    assert torch.equal(read_columns(tmp_path / "file", "a", 1, 3), whole[:, 1:3])
    assert read_columns(tmp_path / "file", "b", 1, 3).shape == (0, 2)
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:-1])
    with pytest.raises(InputError, match="missing or damaged"):
        read_columns(tmp_path / "file", "a", 1, 3)


def test_tensors_of_two_widths_are_aligned_and_plain_safetensors(tmp_path: Path) -> None:
    tensors = {"codes": torch.ones(3, 5).half(), "scale": torch.arange(3.0), "none": torch.zeros(0, 4)}
    write_tensors(tmp_path / "file", tensors)
    content = (tmp_path / "file").read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    assert end % 8 == 0
    assert header["scale"] == {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}
    assert header["codes"] == {"dtype": "F16", "shape": [3, 5], "data_offsets": [12, 42]}
    assert len(content) == end + 42
    found = safetensors.torch.load(content)
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_files_can_be_read_by_whom_the_user_lets(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    for kind, write in WRITERS.items():
        write(tmp_path / kind)
        assert (tmp_path / kind).stat().st_mode == (tmp_path / "usual").stat().st_mode, kind


def test_tables_come_back_as_they_were(tmp_path: Path) -> None:
    columns = {"id": ["", "é\n🦜", "a=b"]}
    path = tmp_path / "key=value" / "file.parquet"  # not a partition: no column may be made of it
    write_table(path, columns)
    assert read_table(path).to_pydict() == columns


@pytest.mark.parametrize(
    ("content", "reader"),
    [
        (b"[1]", read_json),
        (b'{"a":', read_json),
        (b'{"a": "\xff"}', read_json),
        (b"\x08\0\0\0\0\0\0\0{}", read_tensors),
        (b"", read_tensors),
        (b"PAR1", read_table),
    ],
)
def test_files_that_are_no_such_files_are_damaged(
    content: bytes, reader: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"file: .*damaged.*; build the run again"):
        reader(path)


def test_a_sealed_file_tells_when_it_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    value = {"rows": 12, "shards": [5, 7], "é": {"b": None}}
    write_sealed_json(path, value)
    assert read_sealed_json(path) == value
    path.write_text(path.read_text().replace("12", "13"))
    with pytest.raises(InputError, match=r"file: damaged \(its checksum differs\)"):
        read_sealed_json(path)
