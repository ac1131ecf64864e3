"""A process that is killed between two operations on files."""

from __future__ import annotations

import os
from collections.abc import Callable
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
