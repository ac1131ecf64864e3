"""What the command does as a process of its own: little looking for garbage, and a short end.

The libraries make hundreds of thousands of objects that stay to the end.  Looking through them for garbage
finds none, and taking them apart one by one at exit helps nobody; docs/performance.md has what both take.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable

# Objects that are made before Python looks for garbage among them; by itself it takes a few hundred.
MADE_BEFORE_COLLECTING = 20_000


def run_alone(main: Callable[[], None]) -> None:
    """Run `main` as all that this process does.

    The process ends, with `main`'s exit code, when what `main` registered with :mod:`atexit` has run: the
    interpreter is not taken apart.  An exception that nobody caught ends it in Python's own way.
    """
    collect_less()
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


def collect_less() -> None:
    """Let Python look for garbage less often, as the command does, and not while modules come."""
    gc.set_threshold(MADE_BEFORE_COLLECTING, 10, 10)
    gc.callbacks.append(_Spared())


class _Spared:
    """Sets aside what came with new modules just before Python would look through it for garbage.

    Such objects stay to the end.  A little garbage among them does, too.
    """

    def __init__(self) -> None:
        self._modules = len(sys.modules)

    def __call__(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start" and len(sys.modules) > self._modules:
            self._modules = len(sys.modules)
            gc.freeze()
