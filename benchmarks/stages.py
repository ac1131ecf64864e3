"""A clock for the stages of an index build."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from proponent.progress import Advance

MOMENTS, GRADIENTS, SUMS, WHITENING = "second moments", "gradients", "R_train", "whitening"
FACTORS = "Cholesky factors and eigenvalues"
# Stages of a build that the tables count as one, or call by another name.
COUNTED_AS = {"encoding": GRADIENTS, "R_train, summed": SUMS, "factors and eigenvalues": FACTORS}


class StageClock:
    """A Progress that keeps the wall-clock seconds of every stage by its name in the tables.

    processor: the same in seconds of the processor.  names: of stages that are counted by another name.
    """

    def __init__(self, names: Mapping[str, str] = COUNTED_AS) -> None:
        self._names = names
        self.seconds: dict[str, float] = {}
        self.processor: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        """Time a stage."""
        began = clocks()
        yield lambda units, tokens=0: None
        wall, processor = clocks()
        name = self._names.get(name, name)
        self.seconds[name] = self.seconds.get(name, 0.0) + wall - began[0]
        self.processor[name] = self.processor.get(name, 0.0) + processor - began[1]

    def say(self, line: str) -> None:
        """Nothing to time."""


def clocks() -> tuple[float, float]:
    """Seconds of the wall, and of the processor in all threads of this process."""
    return time.perf_counter(), time.process_time()
