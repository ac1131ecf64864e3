"""Runs in a store: the bytes, going on elsewhere, damage, and machines that know nothing of each other."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from tests.killing import Killed
from tests.runs import CORPUS, QUERIES, contents, small_spec
from tests.stores import RUN, at_each_write, empty, kept, machine, upload

from proponent.attribute.tracing import trace
from proponent.build.array import build_part, finish_index
from proponent.build.compact import compact
from proponent.build.indexing import build_index
from proponent.build.repair import repair
from proponent.build.soundness import check
from proponent.errors import InputError
from proponent.evaluate.experiments.catalogue import experiment
from proponent.evaluate.info import info
from proponent.index.run import Index, RunFolder

MEMORY = fsspec.filesystem("memory")
SHARD = f"{RUN}/index/00001.safetensors"


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[Path]:
    """This machine's cache."""
    empty()
    with machine(tmp_path / "here") as cache:
        yield cache
    empty()


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in a folder."""
    return build_index(CORPUS, small_spec(model), tmp_path_factory.mktemp("whole") / "run", "cpu").folder.path


def build(model: Path) -> Index:
    return build_index(CORPUS, small_spec(model), RUN, "cpu")


def test_a_run_in_a_store_has_the_bytes_of_one_in_a_folder(model: Path, whole: Path, here: Path) -> None:
    made = build(model)
    assert kept() == contents(whole)
    assert contents(made.folder.path) == contents(whole)
    assert made.folder.path.is_relative_to(here)
    assert made.size() == Index(whole).size()


def test_what_is_asked_of_it_is_answered_as_of_a_folder(model: Path, whole: Path, here: Path) -> None:
    upload(whole)
    assert Index(RUN).folder.name == RUN
    assert not [*here.rglob("*.parquet")]  # nothing is fetched before it is needed
    said = {**info(RUN).values, "run": str(whole)}
    assert said == info(whole).values
    assert not [*here.rglob("index/*")]
    ours, theirs = trace(RUN, QUERIES, k=3, device="cpu"), trace(whole, QUERIES, k=3, device="cpu")
    assert ours.hits == theirs.hits
    assert ours.settings == {**theirs.settings, "run": RUN}
    assert str(check(RUN)) == f"{RUN}: sound, {len(contents(whole)) - 1} files"


def test_a_file_is_fetched_once(model: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(whole)
    assert Index(RUN).check() == Index(RUN).check()
    monkeypatch.setattr(type(MEMORY), "get_file", None)
    assert Index(RUN).check() == len(contents(whole)) - 1


@pytest.mark.parametrize("harm", [lambda data: data[:-5], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_damage_is_named_and_mended(harm: object, model: Path, whole: Path, tmp_path: Path) -> None:
    upload(whole)
    Index(RUN).check()  # a sound copy here hides nothing
    MEMORY.pipe_file(SHARD, harm(MEMORY.cat_file(SHARD)))  # type: ignore[operator]
    assert [finding.file for finding in check(RUN).findings] == ["index/00001.safetensors"]
    with machine(tmp_path / "there"), pytest.raises(InputError, match=f"{SHARD}: damaged"):
        Index(RUN).check()
    assert repair(RUN, device="cpu").repaired == ("index/00001.safetensors",)
    assert kept() == contents(whole)


@pytest.mark.parametrize(
    "name", ["run.json", "done.json", "examples/00000.parquet", "whitening/00.safetensors"]
)
def test_other_kinds_of_files_are_mended_too(name: str, model: Path, whole: Path) -> None:
    upload(whole)
    content = bytearray(MEMORY.cat_file(f"{RUN}/{name}"))
    content[len(content) // 2] ^= 1
    MEMORY.pipe_file(f"{RUN}/{name}", bytes(content))
    assert repair(RUN, CORPUS, "cpu").repaired == (name,)
    assert kept() == contents(whole)


def test_a_damaged_copy_here_is_fetched_again(whole: Path) -> None:
    upload(whole)
    Index(RUN).check()
    copy = RunFolder(RUN).index(1)
    copy.write_bytes(copy.read_bytes()[:-1])
    assert Index(RUN).check()
    assert contents(copy.parent) == contents(whole / "index")


def test_a_missing_file_is_named(whole: Path) -> None:
    upload(whole)
    MEMORY.rm(SHARD)
    with pytest.raises(InputError, match=f"{SHARD}: missing; make it again"):
        Index(RUN).check()


def test_the_cache_of_another_run_is_emptied(model: Path, whole: Path, tmp_path: Path) -> None:
    upload(whole)
    Index(RUN).check()
    empty()
    with pytest.raises(InputError, match="not a run"):
        Index(RUN)
    assert not contents(RunFolder(RUN).path)
    upload(whole)
    Index(RUN).check()
    other = build_index(CORPUS, small_spec(model, seed=1), tmp_path / "other", "cpu").folder.path
    upload(other)
    Index(RUN).check()
    assert contents(RunFolder(RUN).path) == contents(other)


def test_a_compact_run_of_one_in_a_store(whole: Path, tmp_path: Path) -> None:
    upload(whole)
    made = compact(RUN, "memory://bucket/small", 64)
    assert made.manifest["compacted"]["run"] == RUN
    ours, theirs = kept("memory://bucket/small"), contents(compact(whole, tmp_path / "small", 64).folder.path)
    differ = {"run.json", "done.json"}  # which name the full run
    assert {n: b for n, b in ours.items() if n not in differ} == {
        n: b for n, b in theirs.items() if n not in differ
    }


def writes_of(model: Path, tmp_path: Path) -> int:
    """How many files a build writes."""
    count = 0

    def counted(number: int) -> None:
        nonlocal count
        count = number + 1

    with machine(tmp_path / "counting"), at_each_write(counted):
        build(model)
    empty()
    return count - 1  # the last was that of the removal


def interrupted(number: int, model: Path, where: Path, again: Path) -> None:
    """A build that dies on one machine before a write of this number, and goes on on another."""

    def die(at: int) -> None:
        if at >= number:
            raise Killed

    with machine(where), at_each_write(die), pytest.raises(Killed):
        build(model)
    assert "done.json" not in kept()
    with machine(again), pytest.raises(InputError, match=r"unfinished|not a run"):
        Index(RUN)
    with machine(again):
        build(model)


@pytest.mark.parametrize("number", [1, 4, 9, 30])
def test_interrupted_it_goes_on_on_another_machine(
    number: int, model: Path, whole: Path, tmp_path: Path
) -> None:
    interrupted(number, model, tmp_path / "one", tmp_path / "other")
    assert kept() == contents(whole)


@pytest.mark.slow
def test_interrupted_between_any_two_writes_it_goes_on_anywhere(
    model: Path, whole: Path, tmp_path: Path
) -> None:
    count = writes_of(model, tmp_path)
    assert count > 40
    for number in range(count):
        there = f"other{number}" if number % 2 else f"one{number}"  # or with the cache that it had
        interrupted(number, model, tmp_path / f"one{number}", tmp_path / there)
        assert kept() == contents(whole), f"interrupted before write {number}"
        empty()


def refusal(model: Path) -> str:
    """What a build is refused with; empty where it is not."""
    try:
        build(model)
    except InputError as error:
        return str(error)
    return ""


def beside(number: int, model: Path, tmp_path: Path) -> None:
    """Before a write of this number a whole build is made by another machine."""

    def build_there(at: int) -> None:
        if at == number:
            with machine(tmp_path / f"there{number}"):
                build(model)

    with at_each_write(build_there):
        said = refusal(model)
    if said:
        assert "missing; if another process has finished the run" in said
        assert not refusal(model)


@pytest.mark.parametrize("number", [0, 12, 40])
def test_two_machines_at_once_do_no_harm(number: int, model: Path, whole: Path, tmp_path: Path) -> None:
    beside(number, model, tmp_path)
    assert kept() == contents(whole)


@pytest.mark.slow
def test_two_machines_at_once_do_no_harm_whenever(model: Path, whole: Path, tmp_path: Path) -> None:
    for number in range(writes_of(model, tmp_path)):
        with machine(tmp_path / f"here{number}"):
            beside(number, model, tmp_path)
        assert kept() == contents(whole), f"another machine built it before write {number}"
        empty()


def test_of_two_that_begin_at_once_with_other_threads_one_is_refused(model: Path, whole: Path) -> None:
    manifest = json.loads((whole / "run.json").read_text())
    manifest["made_with"]["threads"] = 2
    other = json.dumps(manifest).encode()

    def begin_there(number: int) -> None:
        if number == 1:  # the first is that of a probe
            MEMORY.pipe_file(f"{RUN}/run.json", other)

    with at_each_write(begin_there), pytest.raises(InputError, match="another machine has just begun"):
        build(model)
    assert kept()["run.json"] == other
    build(model)
    assert Index(RUN).manifest["made_with"]["threads"] == 2


def test_one_machine_builds_it_once_at_a_time(model: Path) -> None:
    def build_too(number: int) -> None:
        if number == 5:
            with pytest.raises(InputError, match="another process is building this run"):
                build(model)

    with at_each_write(build_too):
        build(model)


def test_parts_by_machines_that_share_nothing_else(model: Path, whole: Path, tmp_path: Path) -> None:
    spec = small_spec(model)
    with machine(tmp_path / "zero"):
        assert build_part(CORPUS, spec, RUN, (0, 2), "cpu") == 2
    assert "work/marks/plan.json" in kept()
    with machine(tmp_path / "last"), pytest.raises(InputError, match="of 2 of 4 shards are missing"):
        finish_index(spec, RUN)
    with machine(tmp_path / "one"):
        assert build_part(CORPUS, spec, RUN, (1, 2), "cpu") == 2
        assert not [*(tmp_path / "one").rglob("rows/00000.parquet")]  # of the other part
    with machine(tmp_path / "last"):
        finish_index(spec, RUN)
    assert kept() == contents(whole)


def test_other_parts_wait_for_the_first(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proponent.build.array.STORE_POLL", 0.05)
    made: list[int] = []
    other = threading.Thread(
        target=lambda: made.append(build_part(CORPUS, small_spec(model), RUN, (1, 2), "cpu"))
    )
    other.start()
    other.join(0.5)
    assert other.is_alive()
    assert kept() == {}
    build_part(CORPUS, small_spec(model), RUN, (0, 2), "cpu")
    other.join(60)
    assert made == [2]


def test_a_folder_of_other_things_is_refused(model: Path) -> None:
    MEMORY.pipe_file(f"{RUN}/letter.txt", b"dear")
    with pytest.raises(InputError, match=f"{RUN}: exists and is not a run; give a new"):
        build(model)
    assert kept() == {"letter.txt": b"dear"}


def test_a_store_that_cannot_be_written_is_named_before_any_work(model: Path) -> None:
    def refuse(_: int) -> None:
        raise PermissionError("Access Denied")

    with at_each_write(refuse), pytest.raises(InputError) as caught:
        build(model)
    assert str(caught.value) == (
        f"{RUN}/work/.writable: cannot be written (Access Denied); check the address, your credentials for "
        "it and the network"
    )


def test_a_forged_run_writes_nothing_elsewhere(whole: Path, tmp_path: Path) -> None:
    upload(whole)
    index = Index(RUN)
    for name in ("../stolen", str(tmp_path / "stolen")):
        MEMORY.pipe_file("memory://bucket/stolen", b"bad")
        index.summary["checksums"][name] = "0" * 32
        with pytest.raises(InputError, match="outside of it"):
            index.check()
        del index.summary["checksums"][name]


def test_experiments_are_refused_in_one_line(whole: Path) -> None:
    upload(whole)
    with pytest.raises(InputError, match=f"{RUN}: an experiment keeps its work in the folder of the run"):
        experiment("table1", RUN, "facts.jsonl")
