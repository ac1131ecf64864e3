"""Giving memory that is free back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_trim: Callable[[int], int] | None
try:
    _trim = ctypes.CDLL(None).malloc_trim
except (AttributeError, OSError, TypeError):  # the C library is not GNU's
    _trim = None


def give_back() -> None:
    """Return to the system what the C library keeps of freed memory; nothing is done where it cannot.

    Between what a pass still uses lie hundreds of megabytes that it does not, and later stages would come on
    top of them.
    """
    if _trim is not None:
        _trim(0)
