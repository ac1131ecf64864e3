"""What is read of a system's files on its memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from proponent import memory

CPU = torch.device("cpu")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    return tmp_path


def test_what_is_free_and_what_the_group_leaves(files: Path) -> None:
    assert memory.available(CPU) is None
    (files / "meminfo").write_text("MemTotal: 90 kB\nMemFree: 1 kB\nMemAvailable:    40 kB\n")
    assert memory.available(CPU) == 40 * 1024
    (files / "memory.max").write_text("max\n")
    assert memory.available(CPU) == 40 * 1024
    (files / "memory.max").write_text("9000\n")
    (files / "memory.current").write_text("7000\n")
    (files / "memory.stat").write_text("anon 5000\nfile 1500\n")
    assert memory.available(CPU) == 3500, "cached files can be dropped"
    assert memory.available(torch.device("meta")) is None


def test_this_system_tells() -> None:
    if memory.MEMINFO.exists():
        assert 2**20 < (memory.available(CPU) or 0) < 2**50
