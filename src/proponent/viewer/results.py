"""Result files as the page reads them: one JSON object a line, whatever they are packed in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from proponent.corpus.names import PASSAGE_COLUMNS
from proponent.corpus.records import Record, Source, kind
from proponent.corpus.sources import resolve
from proponent.errors import InputError
from proponent.remote import is_url


@dataclass(frozen=True)
class ResultFile:
    """A result file, or a file of answers that says which queries the model gets right.

    name: the file's, with as many folders before it as tell it from the others that are shown.
    """

    name: str
    _source: Source

    def records(self) -> Iterator[Record]:
        """Every record.  Raises InputError, naming file and line, for one that is no result and no answer."""
        for record in self._source.records(needed=(), useful=()):
            _check(record)
            yield record

    def lines(self) -> Iterator[str]:
        """Every record as one line of JSON without its line end; a number that is none becomes null.

        Raises InputError as ``records`` does.
        """
        write = partial(json.dumps, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        for record in self.records():
            try:
                yield write(record.fields)
            except ValueError:
                yield write(_without_nan(record.fields))


def open_results(paths: Sequence[str | Path]) -> tuple[ResultFile, ...]:
    """The result files at these paths, each read once to its end: what is shown has been checked.

    Raises InputError for a file that is missing, empty, given twice or no result file, and for a bad line.
    """
    for path in paths:
        if not (is_url(path) or Path(path).is_file()):
            raise InputError(f"{path}: no such result file or run")
    files = tuple(ResultFile(source.name, source) for source in resolve(paths)) if paths else ()
    for path, file in zip(paths, files, strict=True):
        if not sum(1 for _ in file.records()):
            raise InputError(f"{path}: empty; give a file that 'proponent trace --output' wrote")
    return files


def _check(record: Record) -> None:
    """Raise InputError for what the page cannot show."""
    fields = record.fields
    if "query_id" in fields and isinstance(fields.get("correct"), bool):
        return
    if not isinstance(fields.get("proponents"), list) or not isinstance(fields.get("inputs_plaintext"), str):
        needed = "'inputs_plaintext' and 'proponents' (or, for answers, 'query_id' and 'correct')"
        found = f"its fields are: {', '.join(fields) or 'none'}"
        raise InputError(f"{record.place}: no result: it needs the fields {needed}; {found}")
    for name in sorted(PASSAGE_COLUMNS & fields.keys()):
        if fields[name] is not None and not isinstance(fields[name], list):
            raise InputError(f"{record.place}: the field {name!r} must be a list, not {kind(fields[name])}")


def _without_nan(value: Any) -> Any:
    """The same value with null for every number that JSON has no word for."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
