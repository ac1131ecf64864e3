"""Threads that work side by side, each with its share of torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def side_by_side(lanes: int, begin: Callable[[], None] = lambda: None) -> Iterator[Executor]:
    """A pool of ``lanes`` >= 1 threads; each calls ``begin`` first, and torch has its share of threads there.

    At the end what runs is waited for, what has not begun never does, and torch has its threads again.
    """
    threads = torch.get_num_threads()

    def start() -> None:
        torch.set_num_threads(max(1, threads // lanes))
        begin()

    pool = ThreadPoolExecutor(lanes, initializer=start)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # of this thread, and of those that are yet to begin
