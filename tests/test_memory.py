"""What is read of a system's files on its memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from proponent import memory
from tests.cli.processes import python

CPU = torch.device("cpu")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    monkeypatch.setattr(memory, "OWN", tmp_path / "own")
    return tmp_path


def limited(group: Path, names: tuple[str, str, str, str], *numbers: int) -> None:
    """A control group with a limit, so much in use, of that so much in files and of these in memory alone."""
    group.mkdir(parents=True, exist_ok=True)
    limit, used, cached, kept = numbers
    (group / names[0]).write_text(f"{limit}\n")
    (group / names[1]).write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 1\n{names[2]} {cached}\n{names[3]} {kept}\n")


def test_what_is_free_and_what_the_group_leaves(files: Path) -> None:
    assert memory.available(CPU) is None
    (files / "meminfo").write_text("MemTotal: 90 kB\nMemFree: 1 kB\nMemAvailable:    40 kB\n")
    assert memory.available(CPU) == 40 * 1024
    (files / "memory.max").write_text("max\n")
    assert memory.available(CPU) == 40 * 1024
    limited(files, memory.SECOND, 9000, 7000, 1500, 0)
    assert memory.available(CPU) == 3500, "cached files can be dropped"
    limited(files, memory.SECOND, 9000, 7000, 1500, 400)
    assert memory.available(CPU) == 3100, "but for those of a tmpfs"
    assert memory.available(torch.device("meta")) is None


def test_this_system_tells() -> None:
    if memory.MEMINFO.exists():
        assert 2**20 < (memory.available(CPU) or 0) < 2**50


@pytest.mark.parametrize(
    ("own", "top", "names"),
    [("0::/slurm/job_1/step", "", memory.SECOND), ("7:cpu,memory:/slurm/job_1/step", "memory", memory.FIRST)],
)
def test_groups_around_the_process_count(
    files: Path, own: str, top: str, names: tuple[str, str, str, str]
) -> None:
    (files / "meminfo").write_text("MemAvailable: 40 kB\n")
    (files / "own").write_text(f"3:pids:/elsewhere\n{own}\n")
    job = files / top / "slurm" / "job_1"
    assert memory.available(CPU) == 40 * 1024, "a group whose folder is not shown here"
    limited(job / "step", names, 2**62, 1000, 0, 0)
    assert memory.available(CPU) == 40 * 1024
    limited(job, names, 9000, 7000, 1500, 0)
    assert memory.available(CPU) == 3500
    limited(files / "elsewhere", names, 1, 1, 0, 0)
    assert memory.available(CPU) == 3500, "no group of this process"


@pytest.fixture
def group() -> Iterator[Path]:
    """A real control group below this process's own, of either version; its limit is 3 GB."""
    for own in reversed(list(memory._groups())):
        for limit in (memory.SECOND[0], memory.FIRST[0]):
            if (own / "cgroup.procs").is_file() and (own / limit).is_file():
                made = own / f"proponent-{os.getpid()}"
                with suppress(OSError):
                    made.mkdir()
                    (made / limit).write_text(f"{3 * 10**9}")
                    yield made
                    made.rmdir()
                    return
    pytest.skip("no control group can be made here")


@pytest.mark.skipif(sys.platform != "linux", reason="has no control groups")
def test_a_real_group_limits_a_process_in_it(group: Path) -> None:
    code = (
        f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
        "import torch; from proponent.memory import available\n"
        "print(available(torch.device('cpu')))"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert 1 * 10**9 < int(done.stdout) < 3 * 10**9
