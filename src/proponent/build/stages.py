"""The stages of a build, whoever runs their tasks: what is missing is done, in an order that sums keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from proponent.build.folder import remove_leftovers
from proponent.build.plan import PLAN
from proponent.build.tasks import Build, features_name, finish, later_stages
from proponent.build.worker import Job, Setup
from proponent.corpus.example import Chunk
from proponent.errors import InputError
from proponent.progress import Advance, Progress

# Does jobs that need not wait for one another, in any order, and reports what they count for.
Run = Callable[[Sequence[Job], Advance], None]
# Token rows, their starts, and what is told which of them were swept.
Swept = tuple[list[tuple[int, ...]], list[int], Callable[[Sequence[int]], None]]


class Executor(Protocol):
    """What runs the tasks of builds: this process, processes of this machine, Ray.

    here: whether this process does, with the model that it has loaded.
    """

    here: bool

    @property
    def threads(self) -> int:
        """Of each worker, for runs that are yet to begin."""

    def check(self) -> None:
        """Raise InputError, before any work, where there can be no workers."""

    def workers(
        self, setup: Setup, builds: Sequence[Build], progress: Progress
    ) -> AbstractContextManager[Run]:
        """Workers that are there until the block ends; builds: with extractors, for use in this process."""


def feature_jobs(builds: Sequence[Build]) -> list[Job]:
    """A job a shard, for all builds."""
    shards = builds[0].marks.read(PLAN)["shards"]
    return [Job(features_name(n), None, n, part["rows"], part["tokens"]) for n, part in enumerate(shards)]


def missing_features(builds: Sequence[Build]) -> list[Job]:
    """The jobs for shards whose features some build lacks."""
    return [job for job in feature_jobs(builds) if not all(build.marks.done(job.name) for build in builds)]


def run_stages(builds: Sequence[Build], run: Run, progress: Progress) -> None:
    """Run what is not done of builds over the same rows, with one pass of the model for all, to the end.

    Raises InputError where no row has a finite gradient, and for a file that was damaged meanwhile.
    """
    jobs, missing = feature_jobs(builds), missing_features(builds)
    if done := len(jobs) - len(missing):
        progress.say(f"going on after {done:,} of {len(jobs):,} shards")
    rows = sum(job.units for job in jobs)
    with progress.stage("gradients", rows, "rows") as advance:
        advance(rows - sum(job.units for job in missing))
        run(missing, advance)
    for number, build in enumerate(builds):
        _finish(build, number, run, progress)


def _finish(build: Build, number: int, run: Run, progress: Progress) -> None:
    if not any(map(build.rows, range(build.shards))):
        raise InputError("no passage of the corpus gave a finite gradient; is the model sound?")
    for title, tasks in later_stages(build).items():
        missing = [Job(task.name, task, number) for task in tasks if not build.marks.done(task.name)]
        with progress.stage(title, len(tasks), "tasks") as advance:
            advance(len(tasks) - len(missing))
            run(missing, advance)
    finish(build)
    remove_leftovers(build.folder)


@contextmanager
def counting(progress: Progress, name: str, chunks: Sequence[Chunk], sweeps: int = 1) -> Iterator[Swept]:
    """A stage of work that sweeps chunks so often, and what it needs of them."""
    rows, starts = [chunk.tokens for chunk in chunks], [chunk.start for chunk in chunks]
    with progress.stage(name, len(rows) * sweeps, "rows") as advance:
        yield rows, starts, lambda of: advance(len(of), tokens=sum(len(rows[n]) for n in of))
