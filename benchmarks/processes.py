"""Whole commands as the system accounts for them: wall-clock and processor seconds of a process tree."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LAST_LINES = 12


@dataclass(frozen=True)
class Usage:
    """Wall-clock seconds of a command, and processor seconds (user and system) of all that it started."""

    wall: float
    cpu: float


def threads_environment(threads: int) -> dict[str, str]:
    """The environment, with so many threads for every library that has a say in it."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    return {**os.environ, **{name: str(threads) for name in names}, "TOKENIZERS_PARALLELISM": "false"}


def usage(command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end, its output into a log; exit with the log's last lines when it fails."""
    began = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=out, stderr=subprocess.STDOUT, env=environment
        )
        # wait4 accounts for the child and for every descendant that was waited for
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        sys.exit("\n".join([f"{' '.join(map(str, command))} ended with {process.returncode}:", *lines]))
    return Usage(time.perf_counter() - began, used.ru_utime + used.ru_stime)


def here(command: str) -> Path:
    """A command of the environment that this script runs in."""
    return Path(sys.executable).with_name(command)
