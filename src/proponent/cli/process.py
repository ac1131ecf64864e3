"""All that the command changes in its own process; importing the library changes nothing in the host's."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys
from collections.abc import Callable

# Prepared products that oneDNN, and torch's bridge to it, keep: a thousand shapes each if not told, which is
# hundreds of megabytes.  One batch has some twenty.  Both are read when the first product is made.
CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
KEPT = "32"
M_ARENA_MAX = -8  # of GNU's malloc.h
# Objects that are made before Python looks for garbage among them, 700 by itself: the libraries make hundreds
# of thousands that stay, and looking through them again and again takes a quarter of the start.
MADE_BEFORE_COLLECTING = 20_000


def settle() -> None:
    """Settle memory and garbage collection, before torch is imported and threads start.

    What the environment says already stays.  All threads share one store of free memory: what a batch leaves,
    the next finds on any thread.
    """
    for name in CACHES:
        os.environ.setdefault(name, KEPT)
    gc.set_threshold(MADE_BEFORE_COLLECTING, 10, 10)
    if "MALLOC_ARENA_MAX" not in os.environ:
        try:
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
        except (AttributeError, OSError, TypeError):
            return  # the C library is not GNU's


def run_alone(main: Callable[[], None]) -> None:
    """Run `main` as all that this process does.

    The process ends, with `main`'s exit code, when what `main` registered with :mod:`atexit` has run: the
    interpreter is not taken apart.  An exception that nobody caught ends it in Python's own way.
    """
    settle()
    status: int | None = None

    def leave() -> None:
        if status is None:
            return
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:
            return  # what could not be written Python tells in its own way, with an exit code of its own
        os._exit(status)

    atexit.register(leave)  # what is registered after it runs before it
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
