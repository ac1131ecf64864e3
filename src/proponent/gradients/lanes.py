"""Batches side by side, each by a thread of its own.

Threads that share one product of a few hundred rows wait for each other at its end, and all but one of them
idle in what is not a product: Python, norms, small products.  Threads that take a batch each do neither.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

import torch

from proponent.corpus.batches import batches
from proponent.gradients.model import LanguageModel
from proponent.threads import side_by_side

# Tokens that a lane has at least: products of fewer rows run slower by more than lanes gain.
LANE_TOKENS = 256

Result = TypeVar("Result")


@dataclass(frozen=True)
class BatchSchedule:
    """Batches (the numbers of their rows) of which ``lanes`` >= 1 run at once, the fullest first."""

    lanes: int
    batches: list[list[int]]


def batch_schedules(model: LanguageModel, lengths: Sequence[int], token_budget: int) -> list[BatchSchedule]:
    """Schedules for rows of these lengths in tokens, to be run one after the other.

    No more than ``token_budget`` tokens are computed at once, unless a single row is longer.  On a processor
    with several threads the budget is divided among lanes, but rows longer than a lane's share come first, by
    all threads together, and what fits into one batch is one.  Other devices, which one batch keeps busy,
    have one lane.  Rows on the two sides of the model's position break never share a batch.
    """
    threads = torch.get_num_threads() if model.device.type == "cpu" else 1
    schedules = []
    for side in _sides(model, lengths):
        one_batch = len(side) * max(lengths[n] for n in side) <= token_budget
        lanes = 1 if one_batch else max(1, min(threads, token_budget // LANE_TOKENS))
        share = token_budget // lanes
        wide = [n for n in side if lengths[n] > share]
        narrow = [n for n in side if lengths[n] <= share]
        for count, rows, budget in ((1, wide, token_budget), (lanes, narrow, share)):
            # the fullest first: they show how much memory is needed, and lanes end together on small ones
            full = sorted(_batches(rows, lengths, budget), key=lambda batch: -len(batch) * lengths[batch[0]])
            schedules += [BatchSchedule(count, full)] if full else []
    return schedules


def plain_batches(model: LanguageModel, lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Batches of rows of these lengths for forward passes one after the other, by the same rules."""
    return [batch for side in _sides(model, lengths) for batch in _batches(side, lengths, token_budget)]


def _sides(model: LanguageModel, lengths: Sequence[int]) -> list[list[int]]:
    """Rows on the two sides of the model's position break, where there are any."""
    limit = math.inf if model.position_break is None else model.position_break
    short = [n for n, length in enumerate(lengths) if length <= limit]
    long = [n for n, length in enumerate(lengths) if length > limit]
    return [side for side in (short, long) if side]


def _batches(rows: Sequence[int], lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    return [[rows[n] for n in group] for group in batches([lengths[n] for n in rows], token_budget)]


def run_lanes(
    model: LanguageModel, schedule: BatchSchedule, work: Callable[[LanguageModel, list[int]], Result]
) -> Generator[Result, None, None]:
    """What ``work`` makes of a model and the rows of each batch, in the order of the batches.

    In a lane the model is a replica that no other thread runs, and torch has the lane's share of the threads.
    Close the generator if it is not read to its end: running batches are waited for, and no others begin.
    """
    if schedule.lanes == 1:
        yield from (work(model, members) for members in schedule.batches)
        return
    own = threading.local()

    def begin() -> None:
        own.model = model.replica()

    with side_by_side(schedule.lanes, begin) as pool:
        running: deque[Future[Result]] = deque()
        for batch in schedule.batches:
            running.append(pool.submit(lambda members: work(own.model, members), batch))
            if len(running) > 2 * schedule.lanes:  # each lane has one more to go on with
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
