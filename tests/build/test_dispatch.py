"""Handing jobs to workers that die."""

from __future__ import annotations

from collections import Counter

import pytest

from proponent.build.dispatch import Dispatch, Outcome
from proponent.build.worker import Job
from proponent.crew import Lost
from proponent.errors import InputError
from proponent.progress import Silent

JOBS = [Job(f"features-{n}", None, n, units=n + 1, tokens=10 * n) for n in range(6)]


class FakeCrew:
    """Workers by number, of whom up to ``most`` live at once; what a job does is said beforehand.

    fates: what becomes of the tries of a job, one after the other; when these are used up it is done.
    """

    tries = 2

    def __init__(self, most: int, **fates: list[Outcome]) -> None:
        self.most, self.fates = most, fates
        self.living, self.given = dict[int, Job | None](), list[tuple[int, str]]()
        self.born = 0

    def joined(self, jobs: int) -> list[int]:
        new = []
        while len(self.living) < min(self.most, jobs):
            self.living[self.born] = None
            new.append(self.born)
            self.born += 1
        return new

    def give(self, worker: int, job: Job) -> None:
        assert self.living[worker] is None, "a job at a time"
        self.living[worker] = job
        self.given.append((worker, job.name))

    def answers(self) -> list[tuple[int, Outcome]]:
        worker, job = next((w, job) for w, job in self.living.items() if job)
        fates = self.fates.get(job.name.replace("-", "_"), [])
        outcome = fates.pop(0) if fates else None
        self.living[worker] = None
        if isinstance(outcome, Lost):
            del self.living[worker]
        return [(worker, outcome)]


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize("most", [1, 3, 10])
def test_every_job_is_done_once_and_counted(most: int) -> None:
    crew, counted = FakeCrew(most), Counter[str]()
    dispatch = Dispatch(crew, Silent())

    def advance(units: int, tokens: int = 0) -> None:
        counted.update(units=units, tokens=tokens)

    for _ in range(2):  # a stage after the other, with the same workers
        dispatch.run(JOBS, advance)
    assert Counter(name for _, name in crew.given) == {job.name: 2 for job in JOBS}
    assert counted == {"units": 2 * 21, "tokens": 2 * 150}
    assert crew.born == min(most, len(JOBS))


def test_a_job_whose_worker_dies_is_given_to_another_and_the_death_is_said() -> None:
    crew, said = FakeCrew(2, features_1=[Lost("worker 7 was killed by SIGKILL")]), Said()
    Dispatch(crew, said).run(JOBS, lambda units, tokens=0: None)
    assert said.lines == ["worker 7 was killed by SIGKILL at features-1, which is done again"]
    first, second = [worker for worker, name in crew.given if name == "features-1"]
    assert first != second
    assert crew.born == 3


def test_workers_that_die_of_the_same_job_are_reported() -> None:
    deaths: list[Outcome] = [Lost("worker 7 ended with exit code 1"), Lost("worker 8 was killed by SIGKILL")]
    crew = FakeCrew(2, features_1=deaths)
    with pytest.raises(InputError, match=r"features-1: worker 8 was killed by SIGKILL, as others .*memory"):
        Dispatch(crew, Silent()).run(JOBS, lambda units, tokens=0: None)


def test_what_a_job_raised_is_raised() -> None:
    crew = FakeCrew(2, features_1=[InputError("rows/00001.parquet: damaged")])
    with pytest.raises(InputError, match=r"^rows/00001.parquet: damaged$"):
        Dispatch(crew, Silent()).run(JOBS, lambda units, tokens=0: None)
