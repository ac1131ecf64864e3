"""A clock for the stages that an index build tells of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from proponent.progress import Advance

MOMENTS = "second moments"


class StageClock:
    """A Progress that keeps the seconds of every stage by its name, and those of the processor.

    Second moments are told as a line; they last until the next stage begins.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        self._moments_began: tuple[float, float] | None = None

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        """Time a stage, and end the making of second moments."""
        if self._moments_began is not None:
            self._keep(MOMENTS, self._moments_began)
            self._moments_began = None
        began = clocks()
        yield lambda units, tokens=0: None
        self._keep(name, began)

    def say(self, line: str) -> None:
        """Begin the second moments' clock where the line is of them."""
        if line.startswith(MOMENTS):
            self._moments_began = clocks()

    def _keep(self, name: str, began: tuple[float, float]) -> None:
        wall, processor = clocks()
        self.seconds[name] = wall - began[0]
        self.processor[name] = processor - began[1]


def clocks() -> tuple[float, float]:
    """Seconds of the wall, and of the processor in all threads of this process."""
    return time.perf_counter(), time.process_time()
