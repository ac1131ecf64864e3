"""How many threads torch has, and threads that work side by side, each with its share of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads: how sums are split among them decides their last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_ahead(items: Iterable[T], prepare: Callable[[T], object]) -> Iterator[T]:
    """The items, each after ``prepare`` was called with it, by a thread while the one before was used."""
    with ThreadPoolExecutor(1) as thread:
        waiting: list[tuple[T, Future[object]]] = []
        for item in items:
            waiting.append((item, thread.submit(prepare, item)))
            if len(waiting) > 1:
                yield _prepared(*waiting.pop(0))
        yield from (_prepared(*each) for each in waiting)


def _prepared(item: T, prepared: Future[object]) -> T:
    prepared.result()
    return item


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
