"""Threads side by side: each has its share of torch's, and torch has all of them again afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from proponent.threads import one_ahead, side_by_side

THREADS = 4


@pytest.fixture(autouse=True)
def torch_has_four() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("lanes", "share"), [(1, 4), (2, 2), (3, 1), (4, 1), (8, 1)])
def test_every_lane_begins_once_and_has_its_share(lanes: int, share: int) -> None:
    begun: list[int] = []
    together = threading.Barrier(lanes)

    def work(_: int) -> tuple[int, int]:
        together.wait(timeout=10)  # all lanes work at once, or nobody goes on
        return threading.get_ident(), torch.get_num_threads()

    with side_by_side(lanes, lambda: begun.append(threading.get_ident())) as pool:
        found = list(pool.map(work, range(lanes)))
    assert sorted(begun) == sorted(ident for ident, _ in found)
    assert len(set(begun)) == lanes
    assert [own for _, own in found] == [share] * lanes
    assert torch.get_num_threads() == THREADS


def test_what_has_not_begun_never_does_once_one_has_failed() -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise MemoryError("no more")
        torch.randn(300, 300) @ torch.randn(300, 300)

    with side_by_side(2) as pool:
        failed = pool.map(work, range(2000))
        with pytest.raises(MemoryError, match="no more"):
            next(failed)
    assert len(begun) < 2000
    assert torch.get_num_threads() == THREADS


def test_one_item_is_prepared_while_the_one_before_is_used() -> None:
    begun = [threading.Event() for _ in range(4)]
    for number in one_ahead(range(4), lambda number: begun[number].set()):
        assert begun[min(number + 1, 3)].wait(timeout=10)
        assert not any(event.is_set() for event in begun[number + 2 :])


def test_what_preparing_an_item_raises_is_raised_in_its_place() -> None:
    def prepare(number: int) -> None:
        if number == 2:
            raise ValueError("broken")

    items = one_ahead(range(4), prepare)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="broken"):
        next(items)
