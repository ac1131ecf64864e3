"""The tasks of a build: their bytes in any order and however often, and what stays out of R_train."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import torch
from tests.index.conftest import (
    BLOCKS,
    DAMPING,
    SHARDS,
    finish_build,
    made_up_features,
    open_build,
    start_build,
    write_features,
    write_run,
)
from torch import Tensor

from proponent.build import tasks
from proponent.build.tasks import Build, Task, factor, finish, hessian, hessian_part, later_stages, whiten
from proponent.errors import InputError
from proponent.index.run import Index, RunFolder

ROWS = 41


def wide_features() -> Tensor:
    """Features of blocks so wide that the order of a sum shows in its last digits."""
    return torch.randn(ROWS, BLOCKS * 1024, generator=torch.Generator().manual_seed(0))


def contents(folder: RunFolder) -> dict[Path, bytes]:
    """Every file of a run with its bytes."""
    return {p.relative_to(folder.path): p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}


def started(path: Path, features: Tensor, shards: tuple[int, ...]) -> Build:
    """A build with its features done."""
    build = start_build(path, features, shards)
    write_features(build)
    return build


def in_order(build: Build) -> None:
    for stage in later_stages(build).values():
        for task in stage:
            task.run(build)


def test_rows_that_are_not_finite_never_reach_r(tmp_path: Path, features: Tensor) -> None:
    broken = torch.cat([features, torch.ones(4, features.shape[1])])
    broken[10, 3] = float("nan")
    broken[11, 0] = float("inf")
    broken[12, 0] = -float("inf")
    broken[13] = 1e25  # finite, its square is not
    index = Index(write_run(tmp_path / "broken", broken, (*SHARDS, 4)).path)
    sound = Index(write_run(tmp_path / "sound", features).path)
    assert index.summary["skipped"]["not_finite"] == ["p10", "p11", "p12", "p13"]
    assert len(index) == 10
    for one, other in zip(index.hessian(), sound.hessian(), strict=True):
        assert torch.equal(one.matrix, other.matrix)
        assert (one.count, one.fourth) == (other.count, other.fourth)
    assert len(list(index.shards())) == len(SHARDS)
    assert max(index.passages(range(10))) == 9


def test_a_broken_row_among_sound_ones_leaves_them_in_their_places(tmp_path: Path, features: Tensor) -> None:
    broken = features.clone()
    broken[2] = float("nan")
    index = Index(write_run(tmp_path / "run", broken).path)
    assert index.summary["shards"] == [4, 1, 4]
    assert [passage.id for passage in index.rows()] == [f"p{n}" for n in range(10) if n != 2]
    norms = torch.cat([shard.feature_norms for shard in index.shards()])
    torch.testing.assert_close(norms, broken[[n for n in range(10) if n != 2]].norm(dim=1))


def test_a_run_of_no_sound_row_is_refused(tmp_path: Path, features: Tensor) -> None:
    with pytest.raises(InputError, match="no passage of the corpus gave a finite gradient"):
        write_run(tmp_path / "run", features * float("nan"))
    with pytest.raises(InputError, match="unfinished"):
        Index(tmp_path / "run")


@pytest.mark.parametrize("features", [made_up_features(ROWS), wide_features()], ids=["narrow", "wide"])
def test_r_train_by_spans_is_that_of_one_span(
    features: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = (10, 1, 20, 7, 3)
    whole = Index(write_run(tmp_path / "whole", features, shards).path)
    monkeypatch.setattr(tasks, "SPAN_SHARDS", 1)
    build = started(tmp_path / "spans", features, shards)
    assert build.spans == [range(n, n + 1) for n in range(5)]
    spans = Index(finish_build(build).path)
    for one, other in zip(whole.hessian(), spans.hessian(), strict=True):
        assert one.count == other.count == ROWS
        assert one.fourth == pytest.approx(other.fourth, rel=1e-12)
        atol = 1e-6 * float(one.matrix.diagonal().max())
        torch.testing.assert_close(one.matrix, other.matrix, rtol=0, atol=atol)


@pytest.mark.parametrize("span", [1, 2, 128])
def test_tasks_give_the_same_bytes_in_any_order_and_however_often(
    span: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where each is run by a process of its own, which knows nothing but the folder."""
    monkeypatch.setattr(tasks, "SPAN_SHARDS", span)
    features, shards = wide_features(), (10, 1, 20, 7, 3)
    build, mixed = (started(tmp_path / name, features, shards) for name in ("ordered", "mixed"))
    in_order(build)
    finish(build)
    draw = random.Random(0)
    for stage in later_stages(mixed).values():
        twice = stage * 2
        draw.shuffle(twice)
        for task in twice:
            task.run(open_build(mixed.folder, features))
    finish(open_build(mixed.folder, features))
    assert contents(mixed.folder) == contents(build.folder)


def test_the_features_of_shards_may_be_made_with_gaps_between(tmp_path: Path, features: Tensor) -> None:
    whole = write_run(tmp_path / "whole", features)
    again = started(tmp_path / "again", features, SHARDS)
    mark = again.folder.mark(tasks.features_name(1))
    mark.unlink()
    stamp = again.folder.features(2).stat().st_mtime_ns
    build = open_build(again.folder, features)
    assert [build.marks.done(tasks.features_name(n)) for n in range(3)] == [True, False, True]
    write_features(build)
    assert mark.is_file()
    assert again.folder.features(2).stat().st_mtime_ns == stamp
    assert contents(finish_build(build)) == contents(whole)


def test_tasks_are_named_by_function_and_numbers() -> None:
    assert Task(hessian_part, (3, 12)).name == "hessian_part-00003-00012"
    assert Task(factor, (0,)).name == "factor-00000"
    assert tasks.features_name(7) == "features-00007"


def test_the_stages_hold_every_task_once(tmp_path: Path, features: Tensor) -> None:
    build = start_build(tmp_path / "run", features)
    names = [task.name for stage in later_stages(build).values() for task in stage]
    assert len(set(names)) == len(names) == 2 * BLOCKS + BLOCKS + 2
    assert names[0] == "hessian_part-00000-00000"
    assert names[-1] == "whiten-00001"


@pytest.mark.parametrize("kept", [0, 1])
def test_finishing_goes_on_from_the_files_that_are_there(tmp_path: Path, kept: int) -> None:
    """Files that are whole are not written again, those that are missing come out the same.

    Also a shard of one row, whose products would be rounded otherwise if it were whitened alone.
    """
    features, shards = wide_features(), (30, 1, 10)
    before, again = (started(tmp_path / name, features, shards) for name in ("whole", "again"))
    in_order(before)
    done = [Task(hessian, (0,)), Task(factor, (1,)), Task(whiten, (kept,))]
    files = [
        again.folder.path / path.relative_to(before.folder.path)
        for task in done
        for path in before.marks.files(task.name)
    ]
    files += [again.folder.mark(task.name) for task in done]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        shutil.copy2(before.folder.path / file.relative_to(again.folder.path), file)
    stamps = {file: file.stat().st_mtime_ns for file in files[: 3 + (kept == 0)]}
    whole, found = finish_build(before), finish_build(open_build(again.folder, features))
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps
    assert contents(found) == contents(whole)


@pytest.mark.parametrize("shard", [0, 1, 2])
def test_a_removed_file_alone_is_made_again(tmp_path: Path, shard: int) -> None:
    features, shards = wide_features(), (30, 1, 10)
    build = started(tmp_path / "run", features, shards)
    in_order(build)
    expected = build.folder.index(shard).read_bytes()
    build.folder.index(shard).unlink()
    kept = build.folder.whitening(0).stat().st_mtime_ns
    finish_build(open_build(build.folder, features))
    assert build.folder.index(shard).read_bytes() == expected
    assert build.folder.whitening(0).stat().st_mtime_ns == kept


# the file, and the task that reads it and is done again; finish reads the others
@pytest.mark.parametrize(
    ("name", "numbers", "reader"),
    [
        ("features", (1,), Task(whiten, (0,))),
        ("features", (1,), Task(hessian_part, (0, 1))),
        ("hessian_part", (0, 1), Task(hessian, (1,))),
        ("hessian", (1,), Task(factor, (1,))),
        ("whitening", (1,), Task(whiten, (1,))),
        ("hessian", (1,), None),
        ("whitening", (1,), None),
        ("index", (1,), None),
        ("examples", (1,), None),
        ("staged", (1,), Task(hessian, (1,))),  # what nobody reads any more may be damaged
    ],
)
def test_a_file_that_was_damaged_since_is_named(
    tmp_path: Path, features: Tensor, name: str, numbers: tuple[int, ...], reader: Task | None
) -> None:
    build = started(tmp_path / "run", features, SHARDS)
    in_order(build)
    if reader is not None:
        build.folder.mark(reader.name).unlink()
    file: Path = getattr(build.folder, name)(*numbers)
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    again = open_build(build.folder, features)
    if name == "staged":
        finish_build(again)
        return
    with pytest.raises(InputError, match=rf"{file.name}: damaged .*; remove it and run the same command"):
        finish_build(again)
    assert not build.folder.done.exists()


def test_a_damaged_mark_is_named(tmp_path: Path, features: Tensor) -> None:
    build = started(tmp_path / "run", features, SHARDS)
    in_order(build)
    for name in (tasks.features_name(1), Task(hessian, (0,)).name, Task(whiten, (1,)).name):
        mark = build.folder.mark(name)
        content = mark.read_text()
        mark.write_text(content.replace('"checksums"', '"checksumz"'))
        with pytest.raises(InputError, match=rf"{name}.json: damaged .*; remove it and run the same command"):
            finish_build(open_build(build.folder, features))
        mark.write_text(content)
    finish_build(open_build(build.folder, features))


def test_the_damping_is_that_of_the_build(tmp_path: Path, features: Tensor) -> None:
    for damping in (DAMPING, 3.0):
        index = Index(write_run(tmp_path / str(damping), features, damping=damping).path)
        assert [(b.damping.keep, b.damping.ridge) for b in index.whitening.blocks] == [
            (1.0, damping)
        ] * BLOCKS
