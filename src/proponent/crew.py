"""Workers elsewhere, any of which may be lost: what is said of that, and the actors of a Ray cluster."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import Any

from proponent.errors import InputError, first_line

LOCAL = "local"  # in place of an address: a cluster of this machine, for as long as it is used
LOOK = 1.0  # seconds that answers are waited for before the cluster is looked at again
REACH = 10.0  # seconds in which whoever listens at an address answers
FAILED_STARTS = 3  # actors in a row that do not come to life


def end_with_parent() -> None:
    """End this process at once when the one that spawned it dies, which may be killed and unable to end it.

    The next command on the same files must find them alone, and nobody would end those that wait for work.
    A process that was not spawned goes on.
    """
    if (parent := parent_process()) is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@dataclass(frozen=True)
class Lost:
    """A worker that is gone; how, in words that begin with what it was."""

    how: str


def require_ray() -> Any:
    """The package; InputError where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray is not installed; install it with: pip install 'proponent[ray]'") from error
    return ray


@contextmanager
def connected(address: str, cpus: int) -> Iterator[None]:
    """Be connected to a Ray cluster; a connection that is there already is used and kept.

    cpus: of the cluster that is started where the address is ``local``.
    Raises InputError where Ray is not installed or there is no cluster.
    """
    ray = require_ray()
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
    where: dict[str, Any] = {"address": address}
    if address == LOCAL:
        where |= {"num_cpus": cpus, "include_dashboard": False}
    # Ray prints what it has to say of lost workers beside the results, some of it only as it ends
    with redirect_stdout(sys.stderr):
        try:
            _reach(address)
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, OverflowError, RuntimeError) as error:
            found = f"no Ray cluster at '{address}': {first_line(error)}"
            raise InputError(f"{found}; start one, or give the word {LOCAL}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _reach(address: str) -> None:
    """Raise OSError where nothing listens at an address HOST:PORT: Ray would try it again for minutes."""
    if found := re.fullmatch(r"(?:ray://)?\[?([^/\]]+)\]?:(\d{1,5})", address):
        with socket.create_connection((found[1], int(found[2])), REACH):
            pass


class Actors:
    """Actors of one class on all of a cluster that has room for them, while machines come and go.

    kind, arguments: of the actors.  cpus: threads that each uses.  gpu: whether each has a GPU of its own.
    """

    def __init__(self, kind: type, arguments: tuple[Any, ...], cpus: int, gpu: bool) -> None:
        self._ray = require_ray()
        self._kind, self._arguments, self._cpus, self._gpu = kind, arguments, cpus, gpu
        self._coming: dict[Any, Any] = {}  # actors by the call that tells that they live
        self._asked: dict[Any, Any] = {}  # actors by the call that they work on
        self._living: list[Any] = []
        self._failed, self._met = 0, False

    def joined(self, most: int) -> list[Any]:
        """Actors that have come to life since the last call; starts others, up to so many in all.

        Raises InputError where none ever does, or no machine has room for one.
        """
        room = self._room()
        if not (room or self._met):
            own = f"{self._cpus} thread{'s' * (self._cpus > 1)}{' and a GPU' * self._gpu}"
            raise InputError(
                f"no machine of the Ray cluster has room for a worker of {own}; give it larger ones, or "
                "begin the work with fewer threads a worker: OMP_NUM_THREADS"
            )
        for _ in range(min(most, room) - len(self._coming) - len(self._living)):
            made = self._ray.remote(self._kind).options(num_cpus=self._cpus, num_gpus=int(self._gpu))
            actor = made.remote(*self._arguments)
            self._coming[actor.__ray_ready__.remote()] = actor
        new = []
        for call in self._ready(self._coming, 0):
            actor = self._coming.pop(call)
            if isinstance(answer := self._answer(call), Lost):
                self._failed += 1
                if self._failed >= FAILED_STARTS:
                    raise InputError(f"no worker comes to life on Ray: {answer.how}")
            else:
                self._failed, self._met = 0, True
                new.append(actor)
        self._living += new
        return new

    @property
    def coming(self) -> bool:
        """Whether some have yet to come to life."""
        return bool(self._coming)

    def wait(self) -> None:
        """Until one comes to life, but not for long."""
        self._ready(self._coming, LOOK)

    def put(self, value: Any) -> Any:
        """A value that many calls are given, sent once to each machine."""
        return self._ray.put(value)

    def ask(self, actor: Any, method: str, *arguments: Any) -> None:
        """Let a living actor work on a call."""
        self._asked[getattr(actor, method).remote(*arguments)] = actor

    def answers(self) -> list[tuple[Any, Any]]:
        """What calls gave, or Lost; waits for the first, but not for long."""
        found = []
        for call in self._ready(self._asked or self._coming, LOOK):
            if call in self._asked:
                actor, answer = self._asked.pop(call), self._answer(call)
                if isinstance(answer, Lost):
                    self._living.remove(actor)
                found.append((actor, answer))
        return found

    def forget(self) -> None:
        """Let nobody be told the answers to calls that are still worked on."""
        self._asked.clear()

    def end(self) -> None:
        """End all actors, whatever they are at."""
        for actor in [*self._coming.values(), *self._living]:
            self._ray.kill(actor)

    def _room(self) -> int:
        """How many actors the machines that are there now can hold."""
        resources = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        share = {"GPU": 1} if self._gpu else {"CPU": self._cpus}
        return sum(int(have.get(name, 0) // each) for have in resources for name, each in share.items())

    def _ready(self, calls: dict[Any, Any], timeout: float) -> list[Any]:
        if not calls:
            return []
        ready: list[Any] = self._ray.wait(list(calls), num_returns=len(calls), timeout=0)[0]
        return ready or self._ray.wait(list(calls), num_returns=1, timeout=timeout)[0]

    def _answer(self, call: Any) -> Any:
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            where = [line.strip() for line in str(error).splitlines() if line.strip()[:4] in ("pid:", "ip: ")]
            return Lost(
                f"a worker on Ray ({', '.join(where)}) was lost: {first_line(error)}".replace(" ()", "")
            )


def has_gpus() -> bool:
    """Whether a machine of the cluster has a GPU."""
    return bool(require_ray().cluster_resources().get("GPU", 0))
