"""Giving memory that is free back to the system."""

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

# How much more than after its first batch a pass may hold after another.
GROWTH = 1.05


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
    """Keeps what a pass holds between its batches near what it held after the first, its largest.

    Batches of one shape use the same memory again, and giving it back between them costs a fifth of a pass;
    batches of many shapes leave gaps that no other fits into.
    """

    def __init__(self) -> None:
        self._most: float | None = None

    def keep(self, results: int) -> None:
        """To be called after each batch; results: bytes kept for good so far, which are no leftovers."""
        held = resident() - results
        if self._most is None:
            self._most = GROWTH * held
        elif held > self._most:
            give_back()
