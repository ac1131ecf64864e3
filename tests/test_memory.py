"""Free memory goes back to the system."""

from __future__ import annotations

import sys

import pytest
import torch

from proponent import memory
from proponent.memory import Allowance, give_back, resident


@pytest.mark.skipif(sys.platform != "linux" or memory._trim is None, reason="needs Linux and GNU's C library")
def test_memory_that_was_freed_between_tensors_is_given_back() -> None:
    held = [torch.ones(2000) for _ in range(20000)]  # small enough for the heap, and 160 MB together
    held = held[::50]
    before = resident()
    give_back()
    assert before - resident() > 100e6
    assert all(bool((tensor == 1).all()) for tensor in held)


def test_nothing_happens_where_the_c_library_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_trim", None)
    give_back()


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_resident_bytes_grow_with_what_is_written() -> None:
    before = resident()
    held = torch.ones(25_000_000)
    assert 90e6 < resident() - before < 150e6
    assert held.nbytes == 100e6


@pytest.mark.parametrize("at_once", [1, 2])
def test_memory_goes_back_once_more_is_held_than_after_the_first_batches(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the last of the first leaves 400 beside its results, and a twentieth more may be left: 420
    told = [(850, 500)] * (at_once - 1) + [
        (500, 100),
        (620, 200),
        (621, 200),
        (420, 0),
        (900, 400),
        (900, 500),
    ]
    held = iter(told)
    monkeypatch.setattr(memory, "resident", lambda: next(held)[0])
    given: list[None] = []
    monkeypatch.setattr(memory, "give_back", lambda: given.append(None))
    allowance, counts = Allowance(at_once), []
    for _, results in told:
        allowance.keep(results)
        counts.append(len(given))
    assert counts == [0] * at_once + [0, 1, 1, 2, 2]
