"""Files that appear whole or not at all, and the checksums that tell whether they still are."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from proponent.errors import InputError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to that becomes ``path`` when the block ends well and vanishes when it does not.

    Written aside, synced, renamed: a reader sees the old file, or none, or the whole new one.
    Raises InputError when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    try:
        yield aside
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
        _sync_folder(path.parent)
    except (OSError, SafetensorError) as error:
        if _is_full_disk(error):
            raise InputError(
                f"{path}: no space left on the disk; free some and start again, what is done is kept"
            ) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def _is_full_disk(error: Exception) -> bool:
    # safetensors hands the system's error on as text
    return getattr(error, "errno", None) in FULL_DISK or f"(os error {errno.ENOSPC})" in str(error)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object, readable by people: indented, keys in their given order."""
    with written_whole(path) as aside:
        aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object; InputError when it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged ({error}); build the run again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged (not a JSON object); build the run again")
    return value


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors; the bytes depend on names and values alone."""
    with written_whole(path) as aside:
        save_file({name: value.contiguous() for name, value in tensors.items()}, aside)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors, memory-mapped; InputError when the file is damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: missing or damaged ({error}); build the run again") from error


def write_table(path: Path, columns: Mapping[str, list[Any]], schema: pa.Schema) -> None:
    """Write columns as one Parquet file."""
    with written_whole(path) as aside:
        pq.write_table(pa.table(dict(columns), schema=schema), aside, compression="zstd")


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file; InputError when it is damaged."""
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: missing or damaged ({error}); build the run again") from error


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
