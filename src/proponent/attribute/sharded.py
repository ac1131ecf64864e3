"""Where the shards of a run are when it is traced: in their files, or in the memory of workers on Ray.

Workers keep theirs, and return their best, which are merged, or what was made of each shard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

import torch

from proponent.crew import Actors, Lost, connected
from proponent.index.run import Index
from proponent.index.search import Found, Scan, Shard, merged, search, values
from proponent.progress import Advance, Progress, Silent

T = TypeVar("T")

GATHER = 30.0  # seconds that the first search waits for workers that are starting


class Shards(Protocol):
    """The shards of a run, wherever they are."""

    def search(self, scan: Scan, k: int, progress: Progress) -> Found:
        """The k proponents and k opponents of every query of a scan."""

    def each(self, function: Callable[[Shard], T], stage: str, progress: Progress) -> list[T]:
        """The function's value for every shard that has rows, in their order, as a stage of work."""


class Streamed:
    """Shards that this process reads from their files, one after the other."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def search(self, scan: Scan, k: int, progress: Progress) -> Found:
        """See ``Shards``."""
        return search(scanned(self._index, progress, "searching"), scan, k)

    def each(self, function: Callable[[Shard], T], stage: str, progress: Progress) -> list[T]:
        """See ``Shards``."""
        return values(scanned(self._index, progress, stage), function)


class ShardKeeper:
    """Holds shards of a finished run in memory, each read when it is first used."""

    def __init__(self, run: str, threads: int) -> None:
        self._run, self._threads = run, threads
        self._kept: dict[int, Shard] = {}

    @cached_property
    def _index(self) -> Index:
        return Index(self._run)

    def use(self, work: Callable[[Iterator[Shard]], T], numbers: Sequence[int]) -> T | Exception:
        """What is made of shards of ascending numbers, or what went wrong."""
        try:
            torch.set_num_threads(self._threads)
            missing = [number for number in numbers if number not in self._kept]
            self._kept.update(zip(missing, self._index.shards(missing), strict=True))
            return work(self._kept[number] for number in numbers)
        except Exception as error:
            return error


class RayShards:
    """Shards of a run that actors keep; a lost one's are loaded by others.

    progress: is told of lost actors as well as whoever asks.
    """

    def __init__(self, index: Index, actors: Actors, progress: Progress | None = None) -> None:
        self._actors, self._progress = actors, progress or Silent()
        self._rows = {number: rows for number, rows in enumerate(index.summary["shards"]) if rows}
        self._homes: dict[Any, list[int]] = {}  # numbers of shards by the actor that keeps them
        self._gathered = time.monotonic() + GATHER

    def search(self, scan: Scan, k: int, progress: Progress) -> Found:
        """The same as ``search`` over all shards; see ``Shards``."""
        work = partial(search, scan=scan, k=k)
        return merged([found for _, found in self._used(work, "searching", progress)], k)

    def each(self, function: Callable[[Shard], T], stage: str, progress: Progress) -> list[T]:
        """See ``Shards``."""
        found: dict[int, T] = {}
        for numbers, made in self._used(partial(values, function=function), stage, progress):
            found.update(zip(numbers, made, strict=True))
        return [found[number] for number in sorted(found)]

    def _used(
        self, work: Callable[[Iterator[Shard]], T], stage: str, progress: Progress
    ) -> Iterator[tuple[list[int], T]]:
        """What was made of all shards: numbers of some, and what one actor made of these."""
        sent, done, asked = self._actors.put(work), set[int](), dict[Any, list[int]]()
        try:
            with progress.stage(stage, sum(self._rows.values()), "rows") as advance:
                while len(done) < len(self._rows):
                    advance(0)  # which ends what was cancelled, while workers start or are long at it
                    self._settle(advance)
                    for actor, numbers in self._homes.items():
                        if actor not in asked and (wanted := [n for n in numbers if n not in done]):
                            asked[actor] = wanted
                            self._actors.ask(actor, "use", sent, wanted)
                    for actor, answer in self._actors.answers():
                        numbers = asked.pop(actor, [])
                        if isinstance(answer, Lost):
                            for told in (progress, self._progress):
                                told.say(f"{answer.how}; its shards are loaded by others")
                            self._homes.pop(actor)
                        elif isinstance(answer, Exception):
                            raise answer
                        else:
                            done.update(numbers)
                            yield numbers, answer
                            advance(sum(self._rows[number] for number in numbers))
        finally:
            self._actors.forget()  # else the next question would be given answers to this one

    def _settle(self, advance: Advance) -> None:
        """Give shards that no actor keeps to those that are there, by rows; waits for the first actors."""
        while True:
            self._homes.update((actor, []) for actor in self._actors.joined(len(self._rows)))
            if self._homes and (not self._actors.coming or time.monotonic() > self._gathered):
                break
            self._actors.wait()
            advance(0)
        self._gathered = 0.0
        homeless = sorted(self._rows.keys() - {n for numbers in self._homes.values() for n in numbers})
        share = sum(self._rows[number] for number in homeless) / len(self._homes)
        actors, taken = list(self._homes), 0
        for number in homeless:
            self._homes[actors[min(int(taken / share), len(actors) - 1)]].append(number)
            taken += self._rows[number]
        for numbers in self._homes.values():
            numbers.sort()


@contextmanager
def searching_on_ray(index: Index, address: str, progress: Progress | None = None) -> Iterator[RayShards]:
    """Workers for a run's shards, each with as many threads as torch has here, until the block ends.

    progress: as of ``RayShards``.
    """
    threads = torch.get_num_threads()
    with connected(address, threads):
        actors = Actors(ShardKeeper, (index.folder.kept.everywhere, threads), threads, gpu=False)
        try:
            yield RayShards(index, actors, progress)
        finally:
            actors.end()


def scanned(index: Index, progress: Progress, stage: str) -> Iterator[Shard]:
    """The shards of an index as a stage of work; each is counted once it has been used."""
    with progress.stage(stage, len(index), "rows") as advance:
        for shard in index.shards():
            yield shard
            advance(len(shard))
