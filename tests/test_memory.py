"""Free memory goes back to the system."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


STORES = """
import ctypes, threading
import proponent
together = threading.Barrier(4)
def work():
    together.wait()
    kept = [bytearray(5000) for _ in range(100)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(library.fopen(b"/dev/stdout", b"w"))
library.malloc_info(0, out)
library.fclose(out)
"""


@pytest.mark.skipif(sys.platform != "linux" or memory._trim is None, reason="needs Linux and GNU's C library")
@pytest.mark.parametrize(("chosen", "several"), [({}, False), ({"MALLOC_ARENA_MAX": "8"}, True)])
def test_all_threads_share_one_store_of_free_memory(chosen: dict[str, str], several: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    source = str(Path(memory.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", STORES],
        capture_output=True,
        check=True,
        text=True,
        env={**environment, **chosen, "PYTHONPATH": source},
    )
    assert (done.stdout.count("<heap nr") > 1) == several
    assert "<heap nr" in done.stdout
