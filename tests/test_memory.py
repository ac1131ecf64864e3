"""Free memory goes back to the system."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from proponent import memory
from proponent.memory import give_back


def resident() -> int:
    """Resident pages of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(sys.platform != "linux" or memory._trim is None, reason="needs Linux and GNU's C library")
def test_memory_that_was_freed_between_tensors_is_given_back() -> None:
    held = [torch.ones(2000) for _ in range(20000)]  # small enough for the heap, and 160 MB together
    held = held[::50]
    before = resident()
    give_back()
    assert before - resident() > 100e6 / 4096
    assert all(bool((tensor == 1).all()) for tensor in held)


def test_nothing_happens_where_the_c_library_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_trim", None)
    give_back()
