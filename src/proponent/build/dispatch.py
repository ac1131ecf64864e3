"""Handing jobs to workers that may die: a job is given again, and in the end the death is reported."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from proponent.build.worker import Job
from proponent.crew import Lost
from proponent.errors import InputError
from proponent.progress import Advance, Progress

W = TypeVar("W", bound=Hashable)


# What became of a job: done, failed, or lost with its worker.
Outcome = Exception | Lost | None


class Crew(Protocol[W]):
    """Workers in other processes.

    tries: how often a job is given to workers that die of it.
    """

    tries: int

    def joined(self, jobs: int) -> list[W]:
        """Workers that are new since the last call; there are so many jobs for them."""

    def give(self, worker: W, job: Job) -> None:
        """Let an idle worker do a job."""

    def answers(self) -> list[tuple[W, Outcome]]:
        """What became of jobs, and idle workers that were lost; waits for one, but not for long."""


class Dispatch(Generic[W]):
    """Gives each worker of a crew a job at a time, until all are done."""

    def __init__(self, crew: Crew[W], progress: Progress) -> None:
        self._crew, self._progress = crew, progress
        self._idle: list[W] = []

    def run(self, jobs: Sequence[Job], advance: Advance) -> None:
        """Do jobs that need not wait for one another, in any order.

        Raises what a job raised; InputError where workers die again and again of the same one.
        """
        waiting, busy, lost = deque(jobs), dict[W, Job](), Counter[str]()
        while waiting or busy:
            self._idle += self._crew.joined(len(waiting) + len(busy))
            while waiting and self._idle:
                worker = self._idle.pop()
                busy[worker] = waiting.popleft()
                self._crew.give(worker, busy[worker])
            for worker, outcome in self._crew.answers():
                job = busy.pop(worker, None)
                if isinstance(outcome, Lost):
                    self._idle = [other for other in self._idle if other != worker]
                    if job is not None:
                        self._again(job, outcome, lost)
                        waiting.appendleft(job)
                elif outcome is not None:
                    raise outcome
                elif job is not None:
                    advance(job.units, tokens=job.tokens)
                    self._idle.append(worker)

    def _again(self, job: Job, outcome: Lost, lost: Counter[str]) -> None:
        lost[job.name] += 1
        if lost[job.name] >= self._crew.tries:
            raise InputError(
                f"{job.name}: {outcome.how}, as others did before it at the same task; give it more memory, "
                "fewer workers or a smaller --batch-tokens; what is done is kept"
            )
        self._progress.say(f"{outcome.how} at {job.name}, which is done again")
