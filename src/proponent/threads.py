"""How many threads torch has, and threads that work side by side, each with its share of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads: how sums are split among them decides their last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def side_by_side(lanes: int, begin: Callable[[], None] = lambda: None) -> Iterator[Executor]:
    """A pool of ``lanes`` >= 1 threads; each calls ``begin`` first and has its share of torch's threads.

    At the end running work is waited for, waiting work is cancelled, and torch has its threads again.
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
