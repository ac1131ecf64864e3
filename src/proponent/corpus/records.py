"""Files of records: JSON lines, Parquet and plain text, compressed or not, read as a stream.

A record is a dictionary with the place it was read at, so that whatever is wrong with it can be named.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from proponent.errors import InputError, first_line

PARQUET_ROWS = 1024  # rows that are Python objects at a time


class Record(NamedTuple):
    """fields: the record.  place: ``file:line``, for errors.  number: its line or row, from 1."""

    fields: dict[str, Any]
    place: str
    number: int


class Source(Protocol):
    """Somewhere records come from, again and again in the same order.

    name: short, stable where the files are moved, and unique in its corpus; ids are made of it.
    """

    @property
    def name(self) -> str: ...

    def records(self, needed: Collection[str], useful: Collection[str]) -> Iterator[Record]:
        """Stream the records; a source of columns reads only those `needed` or `useful`.

        Where a needed column is missing (and where none is named) all are read, so that the caller's
        error can list what there is.
        """
        ...


def columns_to_read(present: Collection[str], needed: Collection[str], useful: Collection[str]) -> list[str]:
    """The rule of `Source.records`, for sources that know their columns before they read."""
    if not needed or not set(needed) <= set(present):
        return list(present)
    return [name for name in present if name in needed or name in useful]


@dataclass(frozen=True)
class FileSource:
    """One file; its type is told by its suffixes."""

    path: Path
    name: str

    def records(self, needed: Collection[str], useful: Collection[str]) -> Iterator[Record]:
        if self.path.suffix == ".parquet":
            return _parquet_rows(self.path, needed, useful)
        return _line_records(self.path)


def require_known_type(path: Path) -> None:
    """Raise InputError where no reader knows the file's suffix."""
    if path.suffix == ".parquet":
        return
    compressed = path.suffix in _OPENERS
    form = Path(path.stem).suffix if compressed else path.suffix
    if form not in _PARSERS:
        forms = ", ".join([*_PARSERS, ".parquet"])
        packed = " or ".join(_OPENERS)
        raise InputError(
            f"{path}: unknown file type; known are {forms}, and the lines also compressed with {packed}"
        )


def _line_records(path: Path) -> Iterator[Record]:
    form = path.suffix if path.suffix in _PARSERS else Path(path.stem).suffix
    parse = _PARSERS[form]
    for number, line in enumerate(_lines(path), start=1):
        place = f"{path}:{number}"
        fields = parse(_decode(line, place), place)
        if fields is not None:
            yield Record(fields, place, number)


def _lines(path: Path) -> Iterator[bytes]:
    opener = _OPENERS.get(path.suffix, _open_plain)
    try:
        with opener(path) as stream:
            first = stream.readline()
            yield from [first.removeprefix(b"\xef\xbb\xbf")] if first else []  # a byte order mark is no text
            yield from stream
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); is the file whole?") from error


def _open_plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _open_gzip(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb"))


def _open_zstd(path: Path) -> IO[bytes]:
    return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))


def _decode(line: bytes, place: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place}: not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8"
        ) from error


def _parse_json(line: str, place: str) -> dict[str, Any] | None:
    """One JSON object; None for a blank line, which many writers leave at the end."""
    if not line.strip():
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON ({error}); one object a line is expected") from error
    if not isinstance(value, dict):
        raise InputError(f"{place}: not a JSON object but {kind(value)}; one object a line is expected")
    return value


def _parse_text(line: str, place: str) -> dict[str, Any]:
    """A passage a line; a blank line is an empty passage."""
    return {"text": line.removesuffix("\n").removesuffix("\r")}


_PARSERS: dict[str, Callable[[str, str], dict[str, Any] | None]] = {
    ".jsonl": _parse_json,
    ".json": _parse_json,  # as C4 ships its lines
    ".txt": _parse_text,
}
_OPENERS: dict[str, Callable[[Path], IO[bytes]]] = {".gz": _open_gzip, ".zst": _open_zstd}


def _parquet_rows(path: Path, needed: Collection[str], useful: Collection[str]) -> Iterator[Record]:
    number = 0
    try:
        # pre_buffer would hold whole row groups in memory
        with pq.ParquetFile(path, pre_buffer=False) as file:
            columns = columns_to_read(file.schema_arrow.names, needed, useful)
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=columns):
                for fields in batch.to_pylist():
                    number += 1
                    yield Record(fields, f"{path}:{number}", number)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}:{number + 1}: not UTF-8 in this row or soon after it") from error
    except (OSError, pa.ArrowException) as error:
        reason = first_line(error)
        raise InputError(f"{path}: not a readable Parquet file ({reason}); is the file whole?") from error


def kind(value: object) -> str:
    """What a JSON value is, in the words of an error message."""
    if value is None:
        return "null"
    names: dict[type, str] = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)
