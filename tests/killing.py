"""Processes that are killed: in words, between two operations on files, and by the system at any moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest


class Killed(BaseException):
    """Not an Exception: nothing that handles errors may swallow it."""


class Death:
    """Stops all work after so many file operations; from then on no file can be touched any more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self._left = after
        for name in ("fsync", "replace", "rename", "unlink", "rmdir"):
            monkeypatch.setattr(os, name, self._mortal(getattr(os, name)))

    def _mortal(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def operate(*arguments: Any, **options: Any) -> Any:
            if self._left <= 0:
                raise Killed
            self._left -= 1
            return operation(*arguments, **options)

        return operate


def killed_at(process: BaseProcess, run: Path, files: int) -> bool:
    """Start a process that writes a run and kill -9 it, and it alone, once the run holds so many files more.

    Whether it was still at work; else it ended well.
    """
    wanted = sum(1 for _ in run.rglob("*")) + files
    process.start()
    while process.exitcode is None and sum(1 for _ in run.rglob("*")) < wanted:
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0
