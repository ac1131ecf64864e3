"""A clock for the stages that an index build tells of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from proponent.progress import Advance

MOMENTS = "second moments"


class StageClock:
    """A Progress that keeps the seconds of every stage, by its name.

    Second moments are told as a line; they last until the next stage begins.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._moments_began: float | None = None

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        """Time a stage, and end the making of second moments."""
        began = time.perf_counter()
        if self._moments_began is not None:
            self.seconds[MOMENTS] = began - self._moments_began
            self._moments_began = None
        yield lambda units, tokens=0: None
        self.seconds[name] = time.perf_counter() - began

    def say(self, line: str) -> None:
        """Begin the second moments' clock where the line is of them."""
        if line.startswith(MOMENTS):
            self._moments_began = time.perf_counter()
