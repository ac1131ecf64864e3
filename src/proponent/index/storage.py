"""Tensors and tables on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from proponent.errors import InputError
from proponent.files import written_whole

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
