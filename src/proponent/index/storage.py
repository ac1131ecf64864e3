"""Files that appear whole or not at all, and the checksums that tell whether they still are."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from proponent.errors import InputError

try:
    import fcntl
except ImportError:  # not there on Windows
    fcntl = None  # type: ignore[assignment]

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16"}


@dataclass(frozen=True)
class Layout:
    """What a tensor is made of: its type, one of ``DTYPES``, and its shape."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all its numbers."""
        return self.dtype.itemsize * prod(self.shape)


@contextmanager
def written_whole(path: Path, note: Callable[[str], object] | None = None) -> Iterator[Path]:
    """A path to write to that becomes ``path`` when the block ends well and vanishes when it does not.

    Written aside, synced, renamed: a reader sees the old file, or none, or the whole new one.
    note: told the checksum before the file gets its name.
    Raises InputError when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = aside(path)
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        if note is not None:
            note(checksum(part))
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno in FULL_DISK:
            raise InputError(
                f"{path}: no space left on the disk; free some and start again, what is done is kept"
            ) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def aside(path: Path) -> Path:
    """Where a file lies while it is being written; a killed process may leave it there."""
    return path.with_name(f".{path.name}.part")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object, readable by people: indented, keys in their given order."""
    with written_whole(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object; InputError when it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged ({error}); build the run again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged (not a JSON object); build the run again")
    return value


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object with a checksum of itself, ``sha256``: for a file that no other vouches for."""
    write_json(path, {**value, "sha256": _content_checksum(value)})


def read_sealed_json(path: Path) -> dict[str, Any]:
    """Read what ``write_sealed_json`` wrote, without the checksum; InputError when it is damaged."""
    value = read_json(path)
    if value.pop("sha256", None) != _content_checksum(value):
        raise InputError(f"{path}: damaged (its checksum differs); build the run again")
    return value


def _content_checksum(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], note: Callable[[str], object] | None = None
) -> None:
    """Write named float tensors as safetensors; the bytes depend on names and values alone.

    Not by its ``save_file``, which writes aside by itself: under a random name, which would stay for good
    when the process is killed, and for no other user to read.
    """
    with tensors_written(path, {name: like(value) for name, value in tensors.items()}, note) as put:
        for name, value in tensors.items():
            put(name, value)


def like(tensor: Tensor) -> Layout:
    """The layout of a tensor."""
    return Layout(tensor.dtype, tuple(tensor.shape))


@contextmanager
def tensors_written(
    path: Path, layouts: Mapping[str, Layout], note: Callable[[str], object] | None = None
) -> Iterator[Callable[[str, Tensor], None]]:
    """Write what ``write_tensors`` writes a tensor at a time, so that no two need be in memory.

    Yields a function that takes a name and its tensor; to be called once for every name, in any order.
    """
    # wide types first: every array stays aligned
    names = sorted(layouts, key=lambda name: (-layouts[name].dtype.itemsize, name))
    ends = [0, *accumulate(layouts[name].nbytes for name in names)]
    places = dict(zip(names, pairwise(ends), strict=True))
    header = json.dumps(
        {
            name: {
                "dtype": DTYPES[layouts[name].dtype],
                "shape": layouts[name].shape,
                "data_offsets": places[name],
            }
            for name in names
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    missing = set(names)
    with written_whole(path, note) as part, open(part, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        begin = file.tell()

        def put(name: str, value: Tensor) -> None:
            missing.remove(name)
            if like(value) != layouts[name]:
                raise ValueError(f"{name} is {like(value)}, announced as {layouts[name]}")
            file.seek(begin + places[name][0])
            file.write(value.contiguous().numpy().data)

        yield put
        if missing:
            raise ValueError(f"no values for {sorted(missing)}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors, memory-mapped; InputError when the file is damaged."""
    with _whole_or_error(path):
        return load_file(path)


def read_tensor(path: Path, name: str) -> Tensor:
    """Read one of a file's tensors; InputError when the file is damaged."""
    with _whole_or_error(path), safe_open(path, "pt") as file:
        tensor: Tensor = file.get_tensor(name)
        return tensor


def read_columns(path: Path, name: str, start: int, stop: int) -> Tensor:
    """Read columns start..stop of a tensor [n, m], a copy; InputError when the file is damaged."""
    with _whole_or_error(path), safe_open(path, "pt") as file:
        columns: Tensor = file.get_slice(name)[:, start:stop]
        return columns


@contextmanager
def _whole_or_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: missing or damaged ({error}); build the run again") from error


def write_table(
    path: Path, columns: Mapping[str, Sequence[str]], note: Callable[[str], object] | None = None
) -> None:
    """Write columns of text, each less than 2 GiB, as one Parquet file."""
    table = pa.table([_text_array(values) for values in columns.values()], names=list(columns))
    with written_whole(path, note) as part:
        pq.write_table(table, part, compression="zstd")


def _text_array(values: Sequence[str]) -> pa.StringArray:
    """The values as an Arrow column; OverflowError where their UTF-8 has 2 GiB or more."""
    # of bytes and their ends, since to look at a list pyarrow imports pandas, 55 MB, where it is installed
    encoded = [value.encode() for value in values]
    ends = np.array([0, *accumulate(map(len, encoded))], dtype=np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file; InputError when it is damaged."""
    try:
        with pq.ParquetFile(path) as file:  # read_table would import all that reads folders of files
            return file.read()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: missing or damaged ({error}); build the run again") from error


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path, complaint: str) -> Iterator[None]:
    """Hold a lock file, made with its folder, and remove it at the end; InputError where another holds it.

    The system frees the lock of a process that dies, and the file that it leaves can be locked again.
    Where there are no such locks nothing is done.
    """
    if fcntl is None:
        yield
        return
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(path, complaint)
    try:
        yield
    finally:
        try:
            path.unlink(missing_ok=True)
            if made:
                with suppress(OSError):  # a run is in it, as it should be
                    path.parent.rmdir()
        finally:
            os.close(descriptor)


def _lock(path: Path, complaint: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise InputError(complaint) from error
        except OSError:
            return descriptor  # a file system without locks
        # whoever held it may have removed it in between: then this is the lock of no file
        if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
        os.close(descriptor)
