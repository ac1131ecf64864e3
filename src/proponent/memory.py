"""Sharing memory that is free among threads, and giving it back to the system."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

_trim: Callable[[int], int] | None
try:
    _trim = ctypes.CDLL(None).malloc_trim
except (AttributeError, OSError, TypeError):  # the C library is not GNU's
    _trim = None

M_ARENA_MAX = -8  # of GNU's malloc.h
# How much more than after its largest batch a pass may hold after another.
GROWTH = 1.05


def share_free() -> None:
    """Keep one store of free memory for all threads: what a batch leaves, the next finds on any thread.

    To be called before any thread asks for memory; nothing is done where the C library has no such choice or
    ``MALLOC_ARENA_MAX`` has made it.
    """
    if _trim is not None and "MALLOC_ARENA_MAX" not in os.environ:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Return to the system what the C library keeps of freed memory; nothing is done where it cannot.

    Between what a pass still uses lie hundreds of megabytes that it does not, and later stages would come on
    top of them.
    """
    if _trim is not None:
        _trim(0)


def resident() -> int:
    """Bytes that this process holds in memory; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Allowance:
    """Keeps what a pass holds between its batches below what its largest batch needs.

    What is held after the first tells, so the largest has to come first.  Batches of one shape use the same
    memory again, and giving it back between them costs a fifth of a pass; batches of many shapes leave gaps
    that no other fits into.

    at_once: batches that run side by side; the first so many count as the first.
    """

    def __init__(self, at_once: int) -> None:
        self._coming = at_once
        self._most = 0.0

    def keep(self, results: int) -> None:
        """To be called after each batch.

        results: bytes kept for good so far, which are no leftovers.
        """
        held = resident() - results
        if self._coming:
            self._coming -= 1
            self._most = GROWTH * held
        elif held > self._most:
            give_back()
