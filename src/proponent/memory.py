"""How much memory the process holds, and giving back to the system what is free of it."""

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

# How much more than after its largest batch a pass may hold after another.
GROWTH = 1.05


def give_back() -> None:
    """Return to the system what the C library keeps of freed memory; nothing is done where it cannot.

    Freed blocks of hundreds of megabytes lie between those in use, and later stages would add to them.
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
    """Gives freed memory back once a pass holds more than after its first batches, which must be the largest.

    Giving it back after every batch would make a pass a fifth slower, and batches of one shape reuse the same
    memory; batches of many shapes leave gaps that no other fits into.

    at_once: batches that run side by side; as many count as the first.
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
