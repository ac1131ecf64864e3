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


def test_memory_goes_back_once_more_is_held_than_after_the_first_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = iter((1000, 1040, 1060, 900, 1300, 1300))
    monkeypatch.setattr(memory, "resident", lambda: next(held))
    given: list[None] = []
    monkeypatch.setattr(memory, "give_back", lambda: given.append(None))
    allowance, counts = Allowance(), []
    for results in (100, 100, 100, 100, 100, 400):
        allowance.keep(results)
        counts.append(len(given))
    assert counts == [0, 0, 1, 1, 2, 2]
