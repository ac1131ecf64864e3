"""Work in a process of its own, killed by the system at any moment: no handler runs, nothing is tidied up."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from proponent.files import is_aside


def forked(work: Callable[[], object], seconds: float | None = None) -> bool:
    """Do work in a fork of this process, killed -9 after so many seconds; whether it was still at work."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the work failed"
    return False


def written(place: Path) -> dict[str, bytes]:
    """The files of a folder, or a file, with their bytes; without what a killed process was writing."""
    files = place.rglob("*") if place.is_dir() else [place]
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in files
        if path.is_file() and not is_aside(path)
    }


@dataclass
class Kills:
    """How often work was killed, and in the midst of it."""

    tried: int = 0
    killed: int = 0
    left: int = 0

    def of(
        self,
        work: Callable[[Path], object],
        place: Path,
        times: int,
        written: Callable[[Path], dict[str, bytes]] = written,
    ) -> None:
        """Do work undisturbed and then so many times killed at a random moment and done again.

        work: writes what it is given the place of.  written: gives the bytes of its files, which have to be
        the same in the end.
        """
        began = time.monotonic()
        forked(partial(work, place))
        lasted, expected, chosen = time.monotonic() - began, written(place), random.Random(times)
        assert expected
        for number in range(times):
            shutil.rmtree(place) if place.is_dir() else place.unlink()
            self.tried += 1
            for _ in range(chosen.choice((1, 1, 2))):  # some are killed a second time as they go on
                self.killed += forked(partial(work, place), chosen.uniform(0, lasted))
            self.left += place.exists()
            forked(partial(work, place))
            found = written(place)
            differing = {name for name in expected | found if expected.get(name) != found.get(name)}
            assert not differing, f"killed for the {number + 1}th time: {sorted(differing)}"
