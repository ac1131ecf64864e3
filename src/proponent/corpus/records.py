"""Files of records: JSON lines, CSV and TSV, Parquet and plain text, read as a stream.

A record is a dictionary with the place it was read at, so that whatever is wrong with it can be named.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from proponent.errors import InputError, first_line
from proponent.files import parse_json
from proponent.remote import opened, size_of

# Bytes of one record: a line, a row of a table, a text file read whole. A small compressed file can hold
# gigabytes without a line end; this bounds the memory that reading any file takes.
MAX_RECORD = 64 * 2**20
MAX_RATIO = 200  # bytes of a compressed file to one of it, beyond those of one record; text has some 20
PARQUET_ROWS, PARQUET_BYTES = 1024, 16 * 2**20  # of a batch of rows; the bytes are an estimate
TEXT_AS = ("lines", "documents")

File = str | Path  # the URL of a file of a store, or a path


class Record(NamedTuple):
    """fields: the record.  place: ``file:line``, for errors.  number: its line or row, from 1."""

    fields: dict[str, Any]
    place: str
    number: int


class Source(Protocol):
    """Somewhere records come from, again and again in the same order."""

    @property
    def name(self) -> str:
        """Short, stable where the files are moved, and unique in its corpus; ids are made of it."""

    def records(self, needed: Collection[str], useful: Collection[str]) -> Iterator[Record]:
        """Stream the records; a source of columns reads only those `needed` or `useful`.

        Where a needed column is missing (and where none is named) all are read, so that the caller's
        error can list what there is.
        """


def columns_to_read(present: Collection[str], needed: Collection[str], useful: Collection[str]) -> list[str]:
    """The rule of `Source.records`, for sources that know their columns before they read."""
    if not needed or not set(needed) <= set(present):
        return list(present)
    return [name for name in present if name in needed or name in useful]


@dataclass(frozen=True)
class FileSource:
    """One file, of the type that its suffix names; ``text_as`` "documents": a text file is one passage."""

    path: File
    name: str
    text_as: str = "lines"

    def __post_init__(self) -> None:
        """Raise InputError where no reader knows the file's suffix."""
        if self.form not in _LINES and _whole_name(self.path).suffix != ".parquet":
            known = f"{', '.join(_LINES)}, also compressed with {' or '.join(_PACKED)}, and .parquet"
            raise InputError(f"{self.path}: unknown file type; known are {known}")

    @property
    def form(self) -> str:
        """The suffix that names the file's type, that of its compression left out: ``.txt``, ``.csv``."""
        name = _whole_name(self.path)
        return PurePath(name.stem).suffix if name.suffix in _PACKED else name.suffix

    def records(self, needed: Collection[str], useful: Collection[str]) -> Iterator[Record]:
        if self.form == ".parquet":
            return _parquet_rows(self.path, needed, useful)
        if self.form in _DELIMITERS:
            return _table_rows(self.path, _DELIMITERS[self.form])
        if self.form == ".txt":
            return self._document() if self.text_as == "documents" else _text_lines(self.path)
        return _json_lines(self.path)

    def _document(self) -> Iterator[Record]:
        """The whole file as the one record, called by the file's name."""
        place = f"{self.path}:1"
        text = _decode(b"".join(_lines(self.path, whole=True)), place)
        yield Record({"id": self.name, "text": text}, place, 1)


def _json_lines(path: File) -> Iterator[Record]:
    """One JSON object a line; blank lines, which many writers leave at the end, are passed over."""
    for number, place, line in _decoded(path):
        if not line.strip():
            continue
        try:
            fields = parse_json(line)
        except ValueError as error:
            raise InputError(f"{place}: not JSON ({error}); one object a line is expected") from error
        if not isinstance(fields, dict):
            raise InputError(f"{place}: not a JSON object but {kind(fields)}; one object a line is expected")
        yield Record(fields, place, number)


def _text_lines(path: File) -> Iterator[Record]:
    """A passage a line; a blank line is an empty passage."""
    for number, place, line in _decoded(path):
        yield Record({"text": line.removesuffix("\n").removesuffix("\r")}, place, number)


def _table_rows(path: File, delimiter: str) -> Iterator[Record]:
    """Rows of CSV or TSV, all fields as text, each at its first line; a quoted field may hold line ends."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD))  # else 131,072 characters
    start, size = 1, 0

    def lines() -> Iterator[str]:
        nonlocal size
        for number, line in enumerate(_lines(path), start=1):
            size += len(line)
            if size > MAX_RECORD:
                raise _too_long(f"{path}:{start}", "row", "is a quote missing?")
            yield _decode(line, f"{path}:{number}")

    rows = csv.reader(lines(), delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        for row in rows:
            place = f"{path}:{start}"
            if row and not header:
                header = _checked_header(row, place)
            elif row and len(row) != len(header):
                found = f"{len(row)} fields under a header of {len(header)}"
                raise InputError(f"{place}: {found}; quote a field that holds the delimiter or a line end")
            elif row:
                yield Record(dict(zip(header, row, strict=True)), place, start)
            start, size = rows.line_num + 1, 0
    except csv.Error as error:
        raise InputError(f"{path}:{start}: not a row of a table ({error}); is a quote missing?") from error


def _checked_header(names: list[str], place: str) -> list[str]:
    wrong = next((name for name in names if not name.strip() or names.count(name) > 1), None)
    if wrong is not None:
        fault = f"has the name {wrong!r} twice" if wrong.strip() else "has a column without a name"
        raise InputError(f"{place}: the header line {fault}; the first line must name every column")
    return names


def _lines(path: File, whole: bool = False) -> Iterator[bytes]:
    """The lines of a file with their ends, a byte order mark left out; or all of it at once."""
    try:
        with _open(path) as stream:
            read, size = stream.read if whole else stream.readline, 0
            most = _most_bytes(path)
            for number in count(1):
                line = read(MAX_RECORD + 1)
                size += len(line)
                if len(line) > MAX_RECORD:
                    remedy = "give one passage a line, or --text-as lines" if whole else "split it"
                    raise _too_long(f"{path}:{number}", "document" if whole else "line", remedy)
                if size > most:
                    found = f"unpacks to more than {MAX_RATIO} times its size, as no text does"
                    raise InputError(f"{path}:{number}: {found}; unpack it first if you trust it")
                if not line:
                    return
                yield line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); is the file whole?") from error


def _most_bytes(path: File) -> float:
    """Bytes that a file may give: a compressed one of a few bytes could give more than any disk holds."""
    packed = _whole_name(path).suffix in _PACKED
    return max(MAX_RECORD, MAX_RATIO * size_of(path)) if packed else math.inf


def _too_long(place: str, what: str, remedy: str) -> InputError:
    return InputError(f"{place}: a {what} of more than {MAX_RECORD // 2**20} MiB, the most allowed; {remedy}")


def _decoded(path: File) -> Iterator[tuple[int, str, str]]:
    """Number from 1, place and text of every line."""
    for number, line in enumerate(_lines(path), start=1):
        yield number, f"{path}:{number}", _decode(line, f"{path}:{number}")


def _decode(line: bytes, place: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"not UTF-8 (byte {error.start + 1} of the line)"
        raise InputError(f"{place}: {found}; save the file as UTF-8") from error


def _whole_name(path: File) -> PurePath:
    """A file's name without the end that says which shard it is, as in ``sentences.jsonl-00000-of-00020``."""
    return PurePath(_SHARD.sub("", PurePath(path).name))


def _open(path: File) -> IO[bytes]:
    """A file's bytes, unpacked; closing it closes the file."""
    packed, file = _whole_name(path).suffix, opened(path)
    if packed == ".gz":
        unpacked = gzip.GzipFile(fileobj=file)
        unpacked.myfileobj = file  # type: ignore[assignment]  # which it then closes
        return cast(IO[bytes], unpacked)
    if packed == ".zst":
        return io.BufferedReader(pa.input_stream(file, compression="zstd"))
    return file


_LINES = (".jsonl", ".json", ".csv", ".tsv", ".txt")  # .json as C4 ships its lines
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_PACKED = (".gz", ".zst")
_SHARD = re.compile(r"-\d+-of-\d+$")


def _parquet_rows(path: File, needed: Collection[str], useful: Collection[str]) -> Iterator[Record]:
    number = 0
    try:
        # pre_buffer would hold whole row groups in memory
        with opened(path) as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
            columns = columns_to_read(file.schema_arrow.names, needed, useful)
            for batch in _parquet_batches(path, file, columns):
                for row in range(batch.num_rows if batch.nbytes > MAX_RECORD else 0):
                    if batch.slice(row, 1).nbytes > MAX_RECORD:
                        raise _too_long(f"{path}:{number + row + 1}", "row", "split its text")
                for fields in batch.to_pylist():
                    number += 1
                    yield Record(fields, f"{path}:{number}", number)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}:{number + 1}: not UTF-8 in this row or soon after it") from error
    except (OSError, pa.ArrowException) as error:
        reason = first_line(error)
        raise InputError(f"{path}: not a readable Parquet file ({reason}); is the file whole?") from error


def _parquet_batches(path: File, file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of at most PARQUET_ROWS, of fewer where rows are long on the average of their row group."""
    first = 1
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        # of all columns: to look at one of them ends the process where a file's statistics are damaged
        mean = max(1, group.total_byte_size // max(1, group.num_rows))
        if mean > MAX_RECORD:
            raise _too_long(f"{path}:{first}", "row", "split its text")
        rows = min(PARQUET_ROWS, max(1, PARQUET_BYTES // mean))
        yield from file.iter_batches(batch_size=rows, row_groups=[number], columns=columns)
        first += group.num_rows


_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def kind(value: object) -> str:
    """What a JSON value is, in the words of an error message."""
    return _KINDS.get(type(value), type(value).__name__)
