"""The command's own process: what it settles, how it ends, and that importing the library does neither."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from tests.cli.processes import ENVIRONMENT, python

from proponent.cli import process

IMPORTING = """
import ctypes, gc, os

class Watched(ctypes.CDLL):
    def __getattr__(self, name):
        assert name != "mallopt", "the settings of malloc were changed"
        return super().__getattr__(name)

ctypes.CDLL = Watched
def state():
    return dict(os.environ), gc.get_threshold(), list(gc.callbacks), gc.get_freeze_count(), gc.isenabled()
before = state()
import proponent, proponent.cli, proponent.products
names = [getattr(proponent, name) for name in proponent.__all__]
assert state() == before, (before, state())
print(len(names))
"""


def test_importing_the_library_changes_nothing_in_the_process() -> None:
    done = python("-c", IMPORTING)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15


@pytest.mark.parametrize("given", [{}, {"LRU_CACHE_CAPACITY": "7"}], ids=["by itself", "asked"])
def test_few_prepared_products_are_kept_unless_more_are_asked_for(given: dict[str, str]) -> None:
    clean = {name: value for name, value in ENVIRONMENT.items() if name not in process.CACHES}
    asking = (
        "import os\nfrom proponent.cli.process import CACHES, settle\nsettle()\n"
        "print(*(os.environ[name] for name in CACHES))"
    )
    done = python("-c", asking, env={**clean, **given})
    assert done.stdout.split() == [given.get(name, "32") for name in process.CACHES]


STORES = """
import ctypes, threading
SETTLING
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs GNU's C library")
@pytest.mark.parametrize(
    ("settling", "chosen", "several"),
    [
        ("from proponent.cli.process import settle; settle()", {}, False),
        ("from proponent.cli.process import settle; settle()", {"MALLOC_ARENA_MAX": "8"}, True),
        ("import proponent.products", {}, True),
    ],
)
def test_all_threads_of_a_command_share_one_store_of_free_memory(
    settling: str, chosen: dict[str, str], several: bool
) -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "MALLOC_ARENA_MAX"}
    done = python("-c", STORES.replace("SETTLING", settling), env={**environment, **chosen})
    assert done.stdout.count("<heap nr") > 0, done.stderr
    assert (done.stdout.count("<heap nr") > 1) == several


LEAVING = """
import atexit, sys
from proponent.cli.process import run_alone
class Left:
    def __del__(self):
        print("taken apart")
left = Left()
def main():
    atexit.register(print, "registered")
    print("done", end=" ")
    {ending}
run_alone(main)
"""


@pytest.mark.parametrize(
    ("ending", "code", "apart"),
    [
        ("pass", 0, False),
        ("sys.exit(0)", 0, False),
        ("sys.exit(2)", 2, False),
        ("sys.exit()", 0, False),
        ("raise KeyError('bug')", 1, True),
    ],
)
def test_a_process_of_its_own_ends_at_once(ending: str, code: int, apart: bool) -> None:
    done = python("-c", LEAVING.format(ending=ending))
    assert done.returncode == code
    assert done.stdout.startswith("done registered"), "all that was printed is there"
    assert ("taken apart" in done.stdout) is apart
    assert ("KeyError: 'bug'" in done.stderr) is apart


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_what_could_not_be_written_is_told() -> None:
    with open("/dev/full", "w") as full:
        done = python("-c", LEAVING.format(ending="pass"), out=full)
    assert done.returncode == 120, "Python's own code for it"
    assert "No space left" in done.stderr
