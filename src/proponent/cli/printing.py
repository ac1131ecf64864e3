"""What the command prints: data on stdout, progress and errors on stderr, nothing that steers a terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from proponent.progress import OnStderr

# Control characters but tab and line end, what reverses the direction of text, and halves of surrogate pairs.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with a replacement character for each one that a terminal would obey."""
    return _UNSAFE.sub("\ufffd", text)


def show(value: object) -> None:
    """Print a text, or what a result prints as, on stdout."""
    print(printable(str(value)))


def show_json(value: object, indent: int | None = 2) -> None:
    """Print plain values as JSON, which keeps unsafe characters as escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    print(_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def show_error(message: object) -> None:
    """Print one error line on stderr."""
    print(f"error: {' '.join(printable(str(message)).split())}", file=sys.stderr)


@contextmanager
def resumable() -> Iterator[None]:
    """Say, where the work in this block is interrupted, that the same command goes on with it."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; what is done is kept, and the same command goes on", file=sys.stderr)
        raise


class Terminal(OnStderr):
    """Progress on stderr, with lines that are safe to print."""

    def say(self, line: str) -> None:
        """Print one line on stderr."""
        super().say(printable(line))
