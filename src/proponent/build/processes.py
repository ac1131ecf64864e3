"""Running the tasks of builds in several processes of this machine."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from proponent.build.dispatch import Dispatch, Outcome
from proponent.build.stages import Run
from proponent.build.tasks import Build
from proponent.build.worker import Job, Setup, Worker
from proponent.crew import Lost, end_with_parent
from proponent.errors import InputError
from proponent.gradients.placement import refuse_spread
from proponent.progress import Progress

GRACE = 10.0  # seconds that a process has to end


class Processes:
    """So many processes of this machine, each with its share of the threads.

    device: of the model; ``cuda``, or None where there is CUDA, gives the devices to the workers in turn.
    """

    def __init__(self, count: int, device: str | None = None) -> None:
        if count < 1:
            raise InputError(f"{count} workers; give at least 1")
        refuse_spread(device, "each process")
        self._count, self._device = count, device

    here = False

    @property
    def threads(self) -> int:
        """Torch's, divided among the workers."""
        return max(1, torch.get_num_threads() // self._count)

    def check(self) -> None:
        """Nothing can be missing."""

    @contextmanager
    def workers(self, setup: Setup, builds: Sequence[Build], progress: Progress) -> Iterator[Run]:
        """Processes that start with the first job and end with the block, or with this process."""
        each = f"{setup.threads} thread{'s' * (setup.threads > 1)} each"
        progress.say(f"{self._count} processes of {each}")
        crew = _Crew(self._count, setup, devices(self._device))
        try:
            yield Dispatch(crew, progress).run
        finally:
            crew.end()


def devices(device: str | None) -> list[str | None]:
    """The devices that workers get in turn."""
    if device == "cuda" or (device is None and torch.cuda.is_available()):
        return [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    return [device]


class _Crew:
    """Processes and the pipes to them; a worker is the place of one, which a new one takes when it dies."""

    tries = 2

    def __init__(self, count: int, setup: Setup, devices: Sequence[str | None]) -> None:
        self._count, self._setup, self._devices = count, setup, devices
        self._running: dict[Connection, tuple[BaseProcess, int]] = {}

    def joined(self, jobs: int) -> list[Connection]:
        """Starts processes for the places that are free, as far as there is work for them."""
        free = set(range(self._count)) - {place for _, place in self._running.values()}
        return [self._started(place) for place in sorted(free)[: max(0, jobs - len(self._running))]]

    def give(self, worker: Connection, job: Job) -> None:
        """Send the job; where the process is dead, ``answers`` tells."""
        with suppress(OSError):
            worker.send(job)

    def answers(self) -> list[tuple[Connection, Outcome]]:
        """What came through the pipes; a process whose pipe has closed is dead."""
        found: list[tuple[Connection, Outcome]] = []
        for pipe in wait(list(self._running)):
            assert isinstance(pipe, Connection)
            try:
                found.append((pipe, pipe.recv()))
            except (EOFError, OSError):
                process, _ = self._running.pop(pipe)
                process.join()
                found.append((pipe, Lost(f"worker {process.pid} {_how(process.exitcode)}")))
        return found

    def end(self) -> None:
        """End all processes, whatever they are at: what they have half written is removed another time."""
        for process, _ in self._running.values():
            process.terminate()
        for pipe, (process, _) in self._running.items():
            process.join(GRACE)
            process.kill()
            pipe.close()

    def _started(self, place: int) -> Connection:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        device = self._devices[place % len(self._devices)]
        process = context.Process(target=_work, args=(theirs, self._setup, device), daemon=True)
        resource_tracker.ensure_running()  # which lets signals through again when it starts
        # Ctrl-C reaches every process of a terminal, but only this one answers it; who is born so stays so
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._running[ours] = (process, place)
        return ours


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        memory = ", as the system does when memory runs out," if name == "SIGKILL" else ""
        return f"was killed by {name}{memory}"
    return f"ended with exit code {code}"


def _work(pipe: Connection, setup: Setup, device: str | None) -> None:
    """What a process does: jobs, until there are no more or the process that gives them is gone."""
    end_with_parent()
    worker = Worker(setup, device)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(worker.do(job))
