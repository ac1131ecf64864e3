"""One scan of the index for many queries: scores of every passage, the highest and the lowest kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from proponent.index.background import Background
from proponent.index.codec import Rows
from proponent.index.signs import SignRows
from proponent.threads import side_by_side

LOT, FEW = 16, 64  # shards of signs that are scored together, for at most so many queries
T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Consecutive rows of the index.

    first: position of the first row in the index.  rows: whitened features ψ [n, d], with their norms ‖ψ‖.
    feature_norms: ‖φ‖ [n], before whitening.
    """

    first: int
    rows: Rows | SignRows
    feature_norms: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def positions(self) -> Tensor:
        """Positions [n] of the rows in the index."""
        return self.first + torch.arange(len(self))

    @classmethod
    def joined(cls, shards: Sequence[Shard]) -> Shard:
        """Shards of signs that follow one another as one, whose codes stay where they are."""
        rows = SignRows.joined([shard.rows for shard in shards if isinstance(shard.rows, SignRows)])
        return cls(shards[0].first, rows, torch.cat([shard.feature_norms for shard in shards]))

    def parts(self, rows: int) -> Iterator[Shard]:
        """The shard, so many rows at a time."""
        for start in range(0, len(self), rows):
            stop = start + rows
            yield Shard(self.first + start, self.rows.part(start, stop), self.feature_norms[start:stop])

    def only(self, rows: Tensor, first: int) -> Shard:
        """Some of its rows [m] as a shard of its own, whose positions begin at ``first``."""
        return Shard(first, self.rows.only(rows), self.feature_norms[rows])


class Scan(Protocol):
    """Queries ready to be compared with the passages; how depends on the inner product."""

    def __len__(self) -> int:
        """Number of queries q."""

    def scores(self, shard: Shard) -> Tensor:
        """Scores [q, n] of the passages of a shard."""


class TopRows:
    """The k highest scores and their positions for each query; ties go to the earlier passage."""

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self.scores = torch.empty(queries, 0)
        self.positions = torch.empty(queries, 0, dtype=torch.long)

    def add(self, scores: Tensor, positions: Tensor) -> None:
        """Take scores [q, n] of the passages at positions [n], ascending and above all that came before."""
        # few are high enough, and only those need sorting
        if self.scores.shape[1] == self._k:
            high = scores > self.scores[:, -1:]  # a tie with the last one goes to it
        else:
            high = ~(scores < scores.topk(min(self._k, scores.shape[1])).values[:, -1:])
        wanted = high.any(0)
        scores, positions = scores[:, wanted], positions[wanted]
        # stable, and earlier passages come first: equal scores keep corpus order
        merged = torch.cat([self.scores, scores], 1)
        order = merged.sort(dim=1, descending=True, stable=True).indices[:, : self._k]
        self.scores = merged.gather(1, order)
        self.positions = torch.cat([self.positions, positions.expand(len(scores), -1)], 1).gather(1, order)


@dataclass(frozen=True)
class Found:
    """Scores and positions [q, k] of the highest (proponents) and the lowest (opponents), best first.

    background: how all scores of each query are spread.
    """

    proponent_scores: Tensor
    proponent_positions: Tensor
    opponent_scores: Tensor
    opponent_positions: Tensor
    background: Background


def in_lots(shards: Iterable[Shard], queries: int) -> Iterator[Shard]:
    """The shards that have rows; those of signs joined, several at a time, where one follows the other.

    Counting signs for few queries takes less time than what Python does for a shard, which threads do not
    share.  A worker that took over shards of a lost one has some that do not follow one another.
    """
    most, lot = max(1, LOT * FEW // max(FEW, queries)), list[Shard]()
    for shard in filter(len, shards):
        signs = isinstance(shard.rows, SignRows)
        if lot and not (signs and len(lot) < most and shard.first == lot[-1].first + len(lot[-1])):
            yield Shard.joined(lot)
            lot = []
        if signs:
            lot.append(shard)
        else:
            yield shard
    if lot:
        yield Shard.joined(lot)


def over_shards(function: Callable[[Shard], T], shards: Iterable[Shard]) -> Iterator[tuple[Shard, T]]:
    """The shards that have rows, in order, each with the function's value.

    A shard of signs is the work of one thread: several are then at it side by side.
    """
    filled = (shard for shard in shards if len(shard))
    first, lanes = list(islice(filled, 1)), torch.get_num_threads()
    every = chain(first, filled)
    if not first or lanes == 1 or not isinstance(first[0].rows, SignRows):
        yield from ((shard, function(shard)) for shard in every)
        return
    with side_by_side(lanes) as pool:
        waiting: deque[tuple[Shard, Future[T]]] = deque()
        for shard in every:
            waiting.append((shard, pool.submit(function, shard)))
            if len(waiting) > 2 * lanes:
                done, value = waiting.popleft()
                yield done, value.result()
        for done, value in waiting:
            yield done, value.result()


def values(shards: Iterable[Shard], function: Callable[[Shard], T]) -> list[T]:
    """The function's value for every shard that has rows, in their order."""
    return [value for _, value in over_shards(function, shards)]


def together(queries: int) -> int:
    """Rows whose scores are sorted together: sorting costs as much for a few as for many."""
    return max(2**13, 2**18 // max(1, queries))


def search(shards: Iterable[Shard], scan: Scan, k: int) -> Found:
    """Scan shards of an index once and keep k proponents and k opponents of every query."""
    return keep_best(_gathered(scored(shards, scan), together(len(scan))), len(scan), k)


def scored(shards: Iterable[Shard], scan: Scan) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores [q, n] of a scan and their positions [n], in order, in parts."""
    lots = in_lots(shards, len(scan))
    return ((scores, shard.positions) for shard, scores in over_shards(scan.scores, lots))


def _gathered(parts: Iterable[tuple[Tensor, Tensor]], rows: int) -> Iterator[tuple[Tensor, ...]]:
    """Scores and positions of at least so many rows at a time."""
    held, count = list[tuple[Tensor, Tensor]](), 0
    for part in parts:
        held.append(part)
        count += len(part[1])
        if count >= rows:
            yield tuple(torch.cat(column, -1) for column in zip(*held, strict=True))
            held, count = [], 0
    if held:
        yield tuple(torch.cat(column, -1) for column in zip(*held, strict=True))


def keep_best(scored: Iterable[tuple[Tensor, ...]], queries: int, k: int) -> Found:
    """The k highest and k lowest of scores [q, n] at ascending positions [n], given in parts."""
    top, bottom, background = TopRows(queries, k), TopRows(queries, k), Background(queries)
    for scores, positions in scored:
        top.add(scores, positions)
        bottom.add(-scores, positions)
        background.add(scores, positions)
    return Found(top.scores, top.positions, -bottom.scores, bottom.positions, background)


def best(scores: Tensor, k: int) -> Found:
    """The k highest and the k lowest of scores [q, n], as ``search`` finds them."""
    return keep_best([(scores, torch.arange(scores.shape[1]))], len(scores), k)


def merged(parts: Sequence[Found], k: int) -> Found:
    """What one search of all passages finds, of searches for k of parts of them, in any order."""
    top = [(part.proponent_scores, part.proponent_positions) for part in parts]
    bottom = [(-part.opponent_scores, part.opponent_positions) for part in parts]
    (highest, proponents), (lowest, opponents) = _highest(top, k), _highest(bottom, k)
    background = Background.of_all([part.background for part in parts])
    return Found(highest, proponents, -lowest, opponents, background)


def _highest(parts: Sequence[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """The k highest of scores [q, k] and their positions; ties go to the earlier passage."""
    scores, positions = (torch.cat(columns, 1) for columns in zip(*parts, strict=True))
    positions, order = positions.sort(dim=1)
    scores, order = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return scores[:, :k], positions.gather(1, order[:, :k])
