"""What the command prints: data on stdout, errors on stderr, nothing that steers a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from proponent.progress import CONTROLS, printable


def show(value: object, plain: object = None) -> None:
    """Print a text of several lines, or what a result prints as, on stdout; plain values instead as JSON."""
    if plain is not None:
        show_json(plain)
    else:
        print("\n".join(map(printable, str(value).split("\n"))))


def show_json(value: object, indent: int | None = 2) -> None:
    """Print plain values as JSON, which keeps control characters as escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    print(CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


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
