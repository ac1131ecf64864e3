"""What the scripts here share: rounds of two ways in turn, their ratio, and the machine it was on."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turn(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round; the ways take turns, so that a slow moment meets all of them.

    Each is called once before, unmeasured.
    """
    for work in ways.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            found[name].append(seconds(work))
    return found


def ratio(found: Mapping[str, list[float]], way: str, base: str) -> float:
    """Median over rounds of the time of ``way`` over that of ``base`` in the same round."""
    return statistics.median(a / b for a, b in zip(found[way], found[base], strict=True))


def machine(threads: int | None = None) -> str:
    """The processor, its threads in use (of this process, or as many as given), and the version of torch."""
    names = [
        line.split(":", 1)[1].strip()
        for line in _lines(Path("/proc/cpuinfo"))
        if line.startswith("model name")
    ]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {threads or torch.get_num_threads()} threads, torch {torch.__version__}"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
