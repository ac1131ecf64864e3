"""A file of JSON lines that grows as results come in, so that an interrupted measurement goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from proponent.errors import InputError
from proponent.files import locked, parse_json

T = TypeVar("T")


@dataclass(frozen=True)
class GrowingFile:
    """Lines of one kind; a last one that was cut off is made again.

    first: the first field of every line, by which a cut one is known.  what: is in the file, for messages.
    """

    path: Path
    first: str
    what: str

    def records(self, made: Callable[[dict[str, Any]], T]) -> Iterator[tuple[int, T]]:
        """The number of every whole line, and what is made of its fields.

        Raises InputError for a file of something else: lines that are no JSON, and those of which nothing can
        be made.
        """
        content, whole = self._read()
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                found = made(parse_json(line))
            except (LookupError, TypeError, ValueError, ArithmeticError) as error:
                raise self._foreign(number) from error
            yield number, found
        torn, beginning = content[whole:], f'{{"{self.first}": "'.encode()
        if not (torn.startswith(beginning) or beginning.startswith(torn)):
            raise self._foreign(content.count(b"\n") + 1)

    def _foreign(self, line: int) -> InputError:
        return InputError(f"{self.path}:{line}: not {self.what}; remove the file or give another")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing to it; InputError where one does."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_name(f".{self.path.name}.lock")
        with locked(lock, f"{self.path}: another process is writing to it; wait until it is done"):
            yield

    @contextmanager
    def appending(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Cut off a torn line, and give a function that appends a record and sees it written."""
        content, whole = self._read()
        if whole < len(content):
            with self.path.open("r+b") as torn:
                torn.truncate(whole)
        with self.path.open("a", encoding="utf-8") as file:

            def append(record: dict[str, Any]) -> None:
                file.write(json.dumps(record) + "\n")
                file.flush()

            yield append

    def _read(self) -> tuple[bytes, int]:
        """Its bytes, and how many of them are whole lines."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        return content, content.rfind(b"\n") + 1


def text(value: object) -> str:
    """A value that is text; TypeError for another."""
    if not isinstance(value, str):
        raise TypeError(f"{value} is not text")
    return value


def number(value: object) -> float:
    """A value that is a number; TypeError for another, OverflowError for one that is too large."""
    if type(value) not in (int, float):
        raise TypeError(f"{value} is not a number")
    return float(value)  # type: ignore[arg-type]
