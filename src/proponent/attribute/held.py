"""An index whose codes a device holds and scans; else it is read as it is scanned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TypeVar

import torch

from proponent.attribute.sharded import Shards, Streamed
from proponent.gradients.placement import pinned
from proponent.index.codec import CODE_BYTES, HeldRows, Rows
from proponent.index.run import Index
from proponent.index.search import Found, Scan, Shard, search, values
from proponent.memory import available
from proponent.progress import Progress

T = TypeVar("T")

ROWS = 4096  # that are scored at a time: the processor waits for their products, and ranks them
SHARE = 0.6  # of a device's free memory that an index may take: batches and decoded slices need some


def nearest_shards(index: Index, device: torch.device) -> Shards:
    """The shards of a run where a scan is fastest: on the model's card if they fit, else in their files.

    A processor reads them as fast as it could hold them, and counts the signs of a compact index itself.
    """
    if device.type != "cuda" or not fits(index, device):
        return Streamed(index)
    return HeldShards(index, device)


def fits(index: Index, device: torch.device) -> bool:
    """Whether a device has room for all codes of an index that are float16, as they are stored."""
    free = available(device)
    plain = index.sketch is None and index.damping is None
    return plain and free is not None and CODE_BYTES * len(index) * index.dim <= SHARE * free


class HeldShards:
    """Shards whose codes are on a device, read once; scales and norms stay here."""

    def __init__(self, index: Index, device: torch.device) -> None:
        self._index, self._device = index, device

    def search(self, scan: Scan, k: int, progress: Progress) -> Found:
        """See ``Shards``."""
        return search(self._scanned("searching", progress), scan, k)

    def each(self, function: Callable[[Shard], T], stage: str, progress: Progress) -> list[T]:
        """See ``Shards``; its shards are of ``ROWS`` rows."""
        return values(self._scanned(stage, progress), function)

    def _scanned(self, stage: str, progress: Progress) -> Iterator[Shard]:
        with progress.stage(stage, len(self._index), "rows") as advance:
            for shard in self._held.parts(ROWS):
                yield shard
                advance(len(shard))

    @cached_property
    def _held(self) -> Shard:
        """All rows; while one shard's codes are on their way to a card, the next is read."""
        codes = torch.empty(len(self._index), self._index.dim, dtype=torch.float16, device=self._device)
        scale, norms, feature_norms = (torch.empty(len(self._index)) for _ in range(3))
        for shard in self._index.shards():
            assert isinstance(shard.rows, Rows)
            there = slice(shard.first, shard.first + len(shard))
            codes[there].copy_(pinned(shard.rows.codes, self._device), non_blocking=True)
            scale[there], norms[there] = shard.rows.scale, shard.rows.norms
            feature_norms[there] = shard.feature_norms
        return Shard(0, HeldRows(codes, scale, norms), feature_norms)
