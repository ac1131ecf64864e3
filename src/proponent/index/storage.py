"""Tensors and tables on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from proponent.errors import InputError
from proponent.files import called, written_whole

TEXT, TOKENS = pa.string(), pa.list_(pa.int32())  # types of columns
DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.uint8: "U8"}


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], note: Callable[[str], object] | None = None
) -> None:
    """Write named tensors as safetensors; the bytes depend on names and values alone.

    Not by its ``save_file``, which writes aside by itself: under a random name, which would stay for good
    when the process is killed, and for no other user to read.  note: as of ``written_whole``.
    """
    # wide types first: every array stays aligned
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    ends = [0, *accumulate(tensors[name].nbytes for name in names)]
    entries = {
        name: {"dtype": DTYPES[tensors[name].dtype], "shape": [*tensors[name].shape], "data_offsets": place}
        for name, place in zip(names, pairwise(ends), strict=True)
    }
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with written_whole(path, note) as part, open(part, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in names:
            file.write(tensors[name].contiguous().numpy().data)


class Stored(dict[str, Tensor]):
    """The tensors of a file by name; InputError, and not a KeyError, for one that it does not hold."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self._path = path

    def __missing__(self, name: str) -> Tensor:
        raise InputError(f"{called(self._path)}: damaged (holds no '{name}'); build the run again")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors, memory-mapped; InputError when the file is damaged, or has none of a name."""
    try:
        return Stored(path, load_file(path))
    except (OSError, SafetensorError) as error:
        raise InputError(f"{called(path)}: missing or damaged ({error}); build the run again") from error


def read_ahead(path: Path) -> None:
    """Let the system begin to read a file that is mapped next, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def write_table(
    path: Path, columns: Mapping[str, pa.Array], note: Callable[[str], object] | None = None
) -> None:
    """Write columns, as ``text_column`` and ``token_column`` make them, as one Parquet file."""
    table = pa.table(list(columns.values()), names=list(columns))
    with written_whole(path, note) as part:
        pq.write_table(table, part, compression="zstd")


def text_column(values: Sequence[str]) -> pa.StringArray:
    """The values as an Arrow column; OverflowError where their UTF-8 has 2 GiB or more."""
    # of bytes and their ends, since to look at a list pyarrow imports pandas, 55 MB, where it is installed
    encoded = [value.encode() for value in values]
    ends = np.array([0, *accumulate(map(len, encoded))], dtype=np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def token_column(rows: Sequence[Sequence[int]]) -> pa.ListArray:
    """Rows of token ids as an Arrow column."""
    ends = np.array([0, *accumulate(map(len, rows))], dtype=np.int32)
    ids = np.fromiter((token for row in rows for token in row), dtype=np.int32, count=int(ends[-1]))
    return pa.ListArray.from_arrays(_int_array(ends), _int_array(ids))


def _int_array(values: npt.NDArray[np.int32]) -> pa.Int32Array:
    return pa.Int32Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])


def read_table(path: Path, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Read the columns of a Parquet file, of these types; InputError when it is damaged, or has others."""
    try:
        with pq.ParquetFile(path) as file:  # read_table would import all that reads folders of files
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{called(path)}: missing or damaged ({error}); build the run again") from error
    if {column.name: column.type for column in table.schema} != columns:
        found = ", ".join(f"{column.name} ({column.type})" for column in table.schema)
        raise InputError(f"{called(path)}: damaged (its columns are {found}); build the run again")
    if any(table[name].null_count for name in columns):
        raise InputError(f"{called(path)}: damaged (a value is missing); build the run again")
    return table
