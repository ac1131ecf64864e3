"""Running the tasks of builds on Ray: an actor for each device, on machines that may come and go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from proponent.build.dispatch import Dispatch, Outcome
from proponent.build.stages import Run
from proponent.build.tasks import Build
from proponent.build.worker import Job, Setup, Worker
from proponent.crew import LOCAL, Actors, connected, has_gpus, require_ray
from proponent.errors import InputError
from proponent.gradients.placement import refuse_spread
from proponent.progress import Progress


class OnRay:
    """Actors on Ray: one for each GPU or, without GPUs, as many as the processors have room for.

    address: of a cluster that runs, or ``local``.  count: workers among which the threads of a machine like
    this one are divided.  device: of the model; ``cpu`` leaves GPUs alone.
    """

    def __init__(self, address: str, count: int = 1, device: str | None = None) -> None:
        if count < 1:
            raise InputError(f"{count} workers; give at least 1")
        refuse_spread(device, "each worker on Ray")
        self._address, self._count, self._device = address, count, device

    here = False

    @property
    def threads(self) -> int:
        """Torch's here, divided among the workers."""
        return max(1, torch.get_num_threads() // self._count)

    def check(self) -> None:
        """Connect once to a cluster that is said to run, and look for Ray."""
        require_ray()
        if self._address != LOCAL:
            with connected(self._address, 1):
                pass

    @contextmanager
    def workers(self, setup: Setup, builds: Sequence[Build], progress: Progress) -> Iterator[Run]:
        """Actors that start with the first job and end with the block, or with this process."""
        with connected(self._address, self._count * setup.threads):
            gpu = self._device in (None, "cuda") and has_gpus()
            crew = _Crew(Actors(Worker, (setup, "cuda" if gpu else self._device), setup.threads, gpu))
            each = f"{setup.threads} thread{'s' * (setup.threads > 1)}{' and a GPU' * gpu} each"
            progress.say(f"workers on Ray of {each}")
            try:
                yield Dispatch(crew, progress).run
            finally:
                crew.actors.end()


class _Crew:
    """Actors as a crew; machines that come and go are more usual than on one machine."""

    tries = 4

    def __init__(self, actors: Actors) -> None:
        self.actors = actors

    def joined(self, jobs: int) -> list[Any]:
        """Those that have come to life."""
        return self.actors.joined(jobs)

    def give(self, worker: Any, job: Job) -> None:
        """Call the actor."""
        self.actors.ask(worker, "do", job)

    def answers(self) -> list[tuple[Any, Outcome]]:
        """What came back."""
        return self.actors.answers()
