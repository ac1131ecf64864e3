"""How far long work has come: bars on a terminal, plain lines elsewhere, nothing when unwanted."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

Advance = Callable[..., None]
LINE_EVERY = 10.0
# What can steer a terminal or turn the order of what is read, and halves of surrogate pairs; no line end.
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text that is safe to print: on one line, with ``\ufffd`` for every control character."""
    return CONTROLS.sub("\ufffd", re.sub(r"[\t\n\r\v\f\x85\u2028\u2029]", " ", text))


class Progress(Protocol):
    """Reports stages of work and single lines."""

    def stage(self, name: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        """A stage of ``total`` units (None: unknown); yields a function to call with the units done since.

        It takes ``tokens=`` as well, for a second rate.
        """

    def say(self, line: str) -> None:
        """Report one line."""


class Silent:
    """Reports nothing."""

    def stage(self, name: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        """A stage that nobody watches."""
        return nullcontext(lambda units, tokens=0: None)

    def say(self, line: str) -> None:
        """Say nothing."""


class OnStderr:
    """Rich bars where stderr is a terminal, otherwise a plain line at most every ten seconds."""

    def stage(self, name: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        """Show a stage with its rates and the time left."""
        return _bar(name, total, unit) if sys.stderr.isatty() else _lines(name, total, unit)

    def say(self, line: str) -> None:
        """Print one line on stderr, safely."""
        print(printable(line), file=sys.stderr, flush=True)


def _rates(done: int, tokens: int, seconds: float, unit: str) -> str:
    seconds = max(seconds, 1e-9)
    text = f"{done / seconds:,.1f} {unit}/s"
    return f"{text}, {tokens / seconds:,.0f} tokens/s" if tokens else text


@contextmanager
def _bar(name: str, total: int | None, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    title, rates = TextColumn("{task.description}"), TextColumn("{task.fields[rates]}")
    columns = (title, BarColumn(), MofNCompleteColumn(), rates, TimeRemainingColumn())
    began, done, all_tokens = time.monotonic(), 0, 0
    with RichProgress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(name, total=total, rates="")

        def advance(units: int, tokens: int = 0) -> None:
            nonlocal done, all_tokens
            done, all_tokens = done + units, all_tokens + tokens
            rates = _rates(done, all_tokens, time.monotonic() - began, unit)
            bars.update(task, advance=units, rates=rates)

        yield advance


@contextmanager
def _lines(name: str, total: int | None, unit: str) -> Iterator[Advance]:
    began = last = time.monotonic()
    done = all_tokens = 0

    def report() -> None:
        seconds = time.monotonic() - began
        line = f"{name}: {done:,}{f' of {total:,}' if total else ''} {unit}"
        line += f", {_rates(done, all_tokens, seconds, unit)}"
        if total and 0 < done < total:
            line += f", {seconds * (total - done) / done:,.0f} s left"
        print(line, file=sys.stderr, flush=True)

    def advance(units: int, tokens: int = 0) -> None:
        nonlocal last, done, all_tokens
        done, all_tokens = done + units, all_tokens + tokens
        if time.monotonic() - last >= LINE_EVERY:
            last = time.monotonic()
            report()

    yield advance
    if last == began or time.monotonic() - last > 0.1:
        report()
