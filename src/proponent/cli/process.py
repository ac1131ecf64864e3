"""All that the command changes in its own process; importing the library changes nothing in the host's."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress

# Shapes that oneDNN and torch's bridge to it keep: by default a thousand each, hundreds of megabytes.
# One batch has some twenty.
CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32", "LRU_CACHE_CAPACITY": "32"}
M_ARENA_MAX = -8  # of GNU's malloc.h
# New objects before a garbage collection, by default 700: with the hundreds of thousands of objects that the
# libraries make and keep, collecting takes a quarter of the start.
COLLECT_AFTER = 20_000


def settle() -> None:
    """Set up memory and garbage collection, before torch is imported and threads start.

    Environment variables that are set already stay.  All threads share one arena, so that memory that a batch
    frees is used again by the next on any thread.
    """
    for name, shapes in CACHES.items():
        os.environ.setdefault(name, shapes)
    gc.set_threshold(COLLECT_AFTER, 10, 10)
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError, OSError, TypeError):  # the C library is not GNU's
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def run_alone(main: Callable[[], None]) -> None:
    """Run `main` as all that this process does, and end the process with its exit code.

    Functions registered with :mod:`atexit` run; the teardown of the interpreter is skipped, but for an
    exception that nobody caught.
    """
    settle()
    status: int | None = None

    def leave() -> None:
        if status is not None:
            with suppress(OSError):  # where output cannot be written, Python reports it as it ends
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)

    atexit.register(leave)  # what is registered after it runs before it
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
