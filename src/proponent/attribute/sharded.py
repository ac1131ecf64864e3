"""Search over shards on Ray: workers keep theirs in memory and return their best, which are merged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch

from proponent.crew import Actors, Lost, connected
from proponent.index.run import Index
from proponent.index.search import Found, Scan, Shard, merged, search
from proponent.progress import Progress

GATHER = 30.0  # seconds that the first search waits for workers that are starting


class ShardKeeper:
    """Holds shards of a finished run in memory, each read when it is first searched."""

    def __init__(self, run: str, threads: int) -> None:
        self._run, self._threads = run, threads
        self._kept: dict[int, Shard] = {}

    @cached_property
    def _index(self) -> Index:
        return Index(self._run)

    def search(self, scan: Scan, k: int, numbers: Sequence[int]) -> Found | Exception:
        """The best of shards of ascending numbers, or what went wrong."""
        try:
            torch.set_num_threads(self._threads)
            missing = [number for number in numbers if number not in self._kept]
            self._kept.update(zip(missing, self._index.shards(missing), strict=True))
            return search((self._kept[number] for number in numbers), scan, k)
        except Exception as error:
            return error


class RaySearch:
    """Searches the shards of a run that actors keep; a lost one's shards are loaded by others."""

    def __init__(self, index: Index, actors: Actors) -> None:
        self._actors = actors
        self._rows = {number: rows for number, rows in enumerate(index.summary["shards"]) if rows}
        self._homes: dict[Any, list[int]] = {}  # numbers of shards by the actor that keeps them
        self._gathered = time.monotonic() + GATHER

    def search(self, scan: Scan, k: int, progress: Progress) -> Found:
        """The same as ``search`` over all shards."""
        found, done = list[Found](), set[int]()
        sent = self._actors.put(scan)
        with progress.stage("searching", sum(self._rows.values()), "rows") as advance:
            asked: dict[Any, list[int]] = {}
            while len(done) < len(self._rows):
                self._settle()
                for actor, numbers in self._homes.items():
                    if actor not in asked and (wanted := [n for n in numbers if n not in done]):
                        asked[actor] = wanted
                        self._actors.ask(actor, "search", sent, k, wanted)
                for actor, answer in self._actors.answers():
                    numbers = asked.pop(actor, [])
                    if isinstance(answer, Lost):
                        progress.say(f"{answer.how}; its shards are loaded by others")
                        self._homes.pop(actor)
                    elif isinstance(answer, Exception):
                        raise answer
                    else:
                        found.append(answer)
                        done.update(numbers)
                        advance(sum(self._rows[number] for number in numbers))
        return merged(found, k)

    def _settle(self) -> None:
        """Give shards that no actor keeps to those that are there, by rows; waits for the first actors."""
        while True:
            self._homes.update((actor, []) for actor in self._actors.joined(len(self._rows)))
            if self._homes and (not self._actors.coming or time.monotonic() > self._gathered):
                break
            self._actors.wait()
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
def searching_on_ray(index: Index, address: str) -> Iterator[RaySearch]:
    """Workers for a run's shards, each with as many threads as torch has here, until the block ends."""
    threads = torch.get_num_threads()
    with connected(address, threads):
        actors = Actors(ShardKeeper, (index.folder.kept.everywhere, threads), threads, gpu=False)
        try:
            yield RaySearch(index, actors)
        finally:
            actors.end()
