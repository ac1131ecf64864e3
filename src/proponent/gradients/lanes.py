"""Batches side by side, each by a thread of its own.

Threads that share one product of a few hundred rows wait for each other at its end, and all but one of them
idle in what is not a product: Python, norms, small pieces.  Threads that take a batch each do neither.
"""

from __future__ import annotations

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
class Stretch:
    """Batches of which so many run at once, the fullest first.

    lanes: 1 or more.  groups: the numbers of the rows of each batch.
    """

    lanes: int
    groups: list[list[int]]


def stretches(lengths: Sequence[int], token_budget: int, device: torch.device) -> list[Stretch]:
    """Batches of rows, for a model on a device: no more than ``token_budget`` tokens are computed at once.

    lengths: tokens of each row.  On a processor with several threads the budget is divided among lanes, but
    rows longer than a lane's share come first, by all threads together, and what fits into one batch is one.
    On other devices, which are busy with one batch, there is one lane.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    lanes = max(1, min(threads, token_budget // LANE_TOKENS))
    if len(lengths) * max(lengths, default=0) <= token_budget:
        lanes = 1
    share = token_budget // lanes
    wide = [n for n, length in enumerate(lengths) if length > share]
    narrow = [n for n, length in enumerate(lengths) if length <= share]
    cut = ((1, wide, token_budget), (lanes, narrow, share))
    return [_stretch(count, rows, lengths, budget) for count, rows, budget in cut if rows]


def _stretch(lanes: int, rows: Sequence[int], lengths: Sequence[int], token_budget: int) -> Stretch:
    groups = [[rows[n] for n in group] for group in batches([lengths[n] for n in rows], token_budget)]
    # the fullest show how much memory is needed, and with small ones at the end lanes finish together
    return Stretch(lanes, sorted(groups, key=lambda group: -len(group) * lengths[group[0]]))


def run_lanes(
    model: LanguageModel, stretch: Stretch, work: Callable[[LanguageModel, list[int]], Result]
) -> Generator[Result, None, None]:
    """What ``work`` makes of every batch, in the order of the batches.

    work: given a model and the numbers of a batch's rows.  In a lane the model is a replica that no other
    thread runs, and torch has the lane's share of the threads.  To be closed if it is not read to its end;
    batches that run then are waited for, and no others begin.
    """
    if stretch.lanes == 1:
        yield from (work(model, group) for group in stretch.groups)
        return
    own = threading.local()

    def begin() -> None:
        own.model = model.replica()

    with side_by_side(stretch.lanes, begin) as pool:
        running: deque[Future[Result]] = deque()
        for group in stretch.groups:
            running.append(pool.submit(lambda members: work(own.model, members), group))
            if len(running) > 2 * stretch.lanes:  # one more for each lane to go on with
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
