"""One thread that runs the page's requests one at a time: a queue, progress, cancelling, limits."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from starlette.exceptions import HTTPException

from proponent.errors import InputError
from proponent.progress import Advance, Progress

log = logging.getLogger("proponent.viewer")
CLOSING = 3.0  # seconds in which cancelled work is to end
RETRY_SECONDS = 5  # after which a client that found the queue full may ask again
# Reports its progress and returns the result.
Job = Callable[[Progress], Any]


class StoppedError(Exception):
    """Work ended before it was done: cancelled, or out of time."""


class Work:
    """One job, from the queue to its result; it is the Progress of its own job.

    state: ``queued``, ``running``, ``done``, ``cancelled`` or ``failed``.  done, total: units of the stage
    that runs.  message: the stage, or why it failed.  outcome: the result, or the error.
    """

    def __init__(self, job: Job, seconds: float) -> None:
        self.id = secrets.token_urlsafe(9)
        self.state, self.message = "queued", ""
        self.done, self.total = 0, 0
        self.outcome: Future[Any] = Future()
        self._job, self._seconds = job, seconds
        self._cancelled = threading.Event()
        self._until = float("inf")

    @property
    def over(self) -> bool:
        """Whether it has ended, with or without a result."""
        return self.state not in ("queued", "running")

    def cancel(self) -> None:
        """Ask it to end; it does so when it next reports progress."""
        self._cancelled.set()

    def check(self) -> None:
        """Raise StoppedError when it was cancelled or is out of time."""
        if self._cancelled.is_set():
            raise StoppedError("cancelled")
        if time.monotonic() > self._until:
            raise StoppedError(f"took longer than the limit of {self._seconds:g} seconds; see --time-limit")

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        """A stage that is counted here, and that ends when the work has to."""
        self.check()
        self.message, self.done, self.total = name, 0, total or 0

        def advance(units: int, tokens: int = 0) -> None:
            self.done += units
            self.check()

        yield advance

    def say(self, line: str) -> None:
        """Keep one line as the message."""
        self.message = line

    def run(self) -> None:
        """Run the job, in the worker's thread; ``state`` and ``outcome`` hold the result or the error."""
        self.state, self._until = "running", time.monotonic() + self._seconds
        try:
            self.check()
            result = self._job(self)
        except BaseException as error:
            self._fail(error)
        else:
            self.outcome.set_result(result)
            self.state, self.message = "done", ""

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, StoppedError | InputError):
            self.message = str(error)
        else:
            log.error("a request failed", exc_info=error)
            self.message = f"the server failed ({type(error).__name__}); its terminal says more"
        self.outcome.set_exception(error)
        cancelled = self._cancelled.is_set() and isinstance(error, StoppedError)
        self.state = "cancelled" if cancelled else "failed"


class Worker:
    """Runs work in one thread, in order: gradients are captured by hooks on the model, so one at a time.

    waiting: jobs that may wait.  seconds: that each may take.
    """

    def __init__(self, waiting: int, seconds: float) -> None:
        self._waiting, self._seconds = waiting, seconds
        self._queue: deque[Work] = deque()
        self._changed = threading.Condition()
        self._current: Work | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="proponent-viewer")
        self._thread.start()

    def submit(self, job: Job, first: bool = False) -> Work:
        """Put a job into the queue, or at its head; raises HTTPException (429) when it is full."""
        work = Work(job, self._seconds)
        with self._changed:
            if len(self._queue) >= self._waiting:
                waiting = f"{len(self._queue)} requests are waiting already"
                later = {"Retry-After": str(RETRY_SECONDS)}
                raise HTTPException(429, f"{waiting}; try again in {RETRY_SECONDS} seconds", later)
            (self._queue.appendleft if first else self._queue.append)(work)
            self._changed.notify()
        return work

    def position(self, work: Work) -> int:
        """How many jobs are done before this one: 0 when it runs or is over."""
        with self._changed:
            waiting = work in self._queue
            return self._queue.index(work) + (self._current is not None) if waiting else 0

    def cancel(self, work: Work) -> None:
        """End it, or take it out of the queue; nothing happens to what is over."""
        work.cancel()
        with self._changed:
            waiting = work in self._queue
            if waiting:
                self._queue.remove(work)
        if waiting:
            work.run()  # sets its outcome to cancelled

    def close(self) -> None:
        """Cancel everything and let the thread end, which is waited for, but not for long."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            everything = [*self._queue, self._current]
        for work in filter(None, everything):
            self.cancel(work)
        self._thread.join(CLOSING)  # else it would ask workers of a Ray session that is gone

    def _work(self) -> None:
        while True:
            with self._changed:
                self._current = None
                while not self._queue and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                self._current = self._queue.popleft()
            self._current.run()
