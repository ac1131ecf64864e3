"""A full disk, a folder that cannot be written, a clock that is set back: named, and nothing lost."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.models import make_model
from tests.runs import CORPUS, contents, small_spec

from proponent.build import indexing, plan
from proponent.build.compact import compact
from proponent.build.indexing import build_index
from proponent.build.soundness import check
from proponent.errors import InputError
from proponent.gradients.model import load_model
from proponent.index.run import Index


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = make_model(tmp_path_factory.mktemp("faults") / "model")
    loaded = load_model(str(folder), device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "load_model", lambda *_: loaded)
        patch.setattr(plan, "SHARD_ROWS", 3)
        yield folder


def mounted(disk: Path, options: str) -> bool:
    """Make the folder a small disk of its own, or change it; whether that is permitted here."""
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that is a disk of its own, of 4 KiB; tests that need it skip where it cannot be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mounted(folder, "size=4k"):
        pytest.skip("disks cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_again_and_again(disk: Path, model: Path, tmp_path: Path) -> None:
    spec, refused = small_spec(model), list[str]()
    for size in (4, *range(16, 400, 48)):
        assert mounted(disk, f"remount,size={size}k")
        try:
            build_index(CORPUS, spec, disk / "run", "cpu")
        except InputError as error:
            refused.append(str(error))
            refused += [name for name in contents(disk / "run") if name.endswith(".part")]
    words = "no space left on the disk; free some and start again, what is done is kept"
    assert len(refused) > 2
    assert all(words in line for line in refused)
    build_index(CORPUS, spec, tmp_path / "whole", "cpu")
    assert contents(disk / "run") == contents(tmp_path / "whole")


def test_a_disk_that_cannot_be_written(disk: Path, model: Path) -> None:
    assert mounted(disk, "remount,size=4m")
    spec = small_spec(model)
    before = contents(build_index(CORPUS, spec, disk / "run", "cpu").folder.path)
    assert mounted(disk, "remount,ro")
    assert check(disk / "run").sound
    assert Index(disk / "run").check() == len(before) - 1
    build_index(CORPUS, spec, disk / "run", "cpu")  # finished: only compared
    with pytest.raises(OSError, match="other") as raised:
        build_index(CORPUS, spec, disk / "other", "cpu")
    assert raised.value.errno == errno.EROFS
    assert contents(disk / "run") == before
    assert mounted(disk, "remount,rw")


def test_a_disk_that_fills_up_as_a_run_is_compacted(disk: Path, model: Path, tmp_path: Path) -> None:
    build_index(CORPUS, small_spec(model), tmp_path / "full", "cpu")
    refused = list[str]()
    for size in (4, *range(16, 200, 24)):
        assert mounted(disk, f"remount,size={size}k")
        try:
            compact(tmp_path / "full", disk / "run", 64)
        except InputError as error:
            refused.append(str(error))
            refused += [name for name in contents(disk / "run") if name.endswith(".part")]
    assert len(refused) > 2
    assert all("no space left on the disk; free some and start again" in line for line in refused)
    compact(tmp_path / "full", tmp_path / "other" / "run", 64)  # as far from the full run
    assert contents(disk / "run") == contents(tmp_path / "other" / "run")


def test_a_run_is_compacted_from_a_disk_that_cannot_be_written_and_not_onto_one(
    disk: Path, model: Path, tmp_path: Path
) -> None:
    assert mounted(disk, "remount,size=4m")
    build_index(CORPUS, small_spec(model), disk / "full", "cpu")
    compact(disk / "full", disk / "run", 64)
    assert mounted(disk, "remount,ro")
    compact(disk / "full", tmp_path / "run", 64)
    compact(disk / "full", disk / "run", 64)  # finished: only compared
    with pytest.raises(OSError, match="other") as raised:
        compact(disk / "full", disk / "other", 64)
    assert raised.value.errno == errno.EROFS
    assert check(disk / "run").sound
    assert mounted(disk, "remount,rw")


def test_a_clock_that_is_set_back_meanwhile(model: Path, tmp_path: Path) -> None:
    spec = small_spec(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proponent.build.stages.finish", stop)
        with pytest.raises(InputError, match="stopped"):
            build_index(CORPUS, spec, tmp_path / "run", "cpu")
    for number, path in enumerate(sorted((tmp_path / "run").rglob("*"))):
        os.utime(path, (2**31 - number, 2**31 - number))
    build_index(CORPUS, spec, tmp_path / "run", "cpu")
    build_index(CORPUS, spec, tmp_path / "whole", "cpu")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def stop(*_: object) -> None:
    raise InputError("stopped")
