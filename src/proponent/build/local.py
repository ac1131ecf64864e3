"""Running the tasks of builds in this process, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from proponent.build.stages import Run
from proponent.build.tasks import Build
from proponent.build.worker import Job, Setup
from proponent.progress import Advance, Progress


class Here:
    """This process runs the tasks."""

    here = True

    @property
    def threads(self) -> int:
        """All that torch has."""
        return torch.get_num_threads()

    def check(self) -> None:
        """Nothing can be missing."""

    @contextmanager
    def workers(self, setup: Setup, builds: Sequence[Build], progress: Progress) -> Iterator[Run]:
        """This process, with the model that it has loaded."""
        yield partial(run_here, builds, setup.output)


def run_here(builds: Sequence[Build], output: str, jobs: Sequence[Job], advance: Advance) -> None:
    """Do jobs in their order."""
    for job in jobs:
        job.run(builds, output, advance)
