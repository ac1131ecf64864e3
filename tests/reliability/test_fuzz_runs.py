"""Malformed files of runs, finished and unfinished, full and compact: named, and never an answer."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from tests.reliability.kinds import GROWTH, peak, refused
from tests.reliability.mutations import malformed
from tests.runs import CORPUS, QUERIES, contents, small_spec

import proponent as pp
from proponent.build.repair import repair
from proponent.build.soundness import check
from proponent.errors import InputError
from proponent.files import checksum, read_checksummed_json, read_json, write_checksummed_json
from proponent.index.manifest import COPY
from proponent.index.run import Index, RunFolder

Make = Callable[[Path], object]
FEW, MANY = 12, 1500  # damages of a run: by default, and in the slow tests
KINDS = ("full", "eigenvectors", "compacted", "made compact")


def make(kind: str, model: Path, folder: Path) -> Make:
    """What makes a run of a kind; folder: of the full run that it may need."""
    full, spec = folder / "full", small_spec(model)
    if kind == "full":
        return lambda run: pp.build_index(CORPUS, spec, run, "cpu")
    if kind == "made compact":
        small = small_spec(model, second_moment="kronecker", damping="oas", size=64)
        return lambda run: pp.build_index(CORPUS, small, run, "cpu")
    if kind == "eigenvectors":  # of 2 blocks of 24 x 24, with fewer signs than coordinates
        spec = small_spec(model, dim=1152, layer_groups=1)
    pp.build_index(CORPUS, spec, full, "cpu")
    return lambda run: pp.compact(full, run, 64)


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs")
    make(request.param, model, folder)(folder / "run")
    return folder / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def opened(path: Path) -> None:
    """All that a trace and `info` read of a run."""
    index = Index(path)
    _ = index.whitening, index.moments, index.sides, index.spectrum()
    _ = list(index.hessian() if index.sketch is None else ())
    _ = list(index.shards()), index.passages(range(len(index)))
    _ = list(index.rows()), index.size(), str(pp.info(path))


def damages(run: Path, times: int, first: int) -> Iterator[tuple[Path, bytes, str]]:
    """Files of a run in turn, with malformed bytes for each, and words for what was done."""
    sound = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    names = list(sound)
    for seed in range(first, first + times):
        path = names[seed % len(names)]
        content = malformed(sound[path], seed // len(names), path.suffix == ".json")
        yield path, content, f"{path.relative_to(run)}, seed {seed}"
        path.write_bytes(sound[path])


def fuzz_run(run: Path, times: int, first: int = 0) -> int:
    """Damage a run so many times, a file at a time; every damage must be refused, and named by a check."""
    count, before, sound = 0, peak(), contents(run)
    for path, content, what in damages(run, times, first):
        if content == sound[name := path.relative_to(run).as_posix()]:
            continue
        path.write_bytes(content)
        found = refused(partial(opened, run), what)
        assert found or name == "done.json", f"{what}: damage was not seen"
        named = {finding.file for finding in check(run).findings}
        assert not found or named & {name, "run.json"}, f"{what}: only {named}"
        count += found
        assert {**contents(run), name: b""} == {**sound, name: b""}, f"{what}: something was written"
    assert contents(run) == sound
    assert peak() - before < GROWTH
    return count


def test_damage_of_a_run_is_refused_and_named(run: Path) -> None:
    assert fuzz_run(run, FEW) > FEW / 2


@pytest.mark.slow
def test_many_damages_of_a_run(run: Path) -> None:
    print(f"{run}: {fuzz_run(run, MANY, first=FEW)} of {MANY} refused")


def repaired(made: Path, run: Path, times: int, first: int = 0) -> int:
    """Damage a run so many times and repair it; how often it has its bytes again.  Else it says why."""
    count, sound = 0, contents(run)
    for path, content, what in damages(run, times, first):
        path.write_bytes(content)
        with suppress(InputError):
            repair(run, CORPUS, "cpu")
        if contents(run) == sound:
            count += 1
        else:
            assert path.name == "done.json", what
            shutil.rmtree(run)
            shutil.copytree(made, run)
    return count


@pytest.mark.slow
def test_many_damages_of_a_run_are_repaired(made: Path, run: Path) -> None:
    print(f"{run}: {repaired(made, run, 60)} of 60 repaired")


def forged(run: Path, path: Path, content: bytes) -> None:
    """Damage a file of a run and write the checksum that then fits."""
    folder, name = RunFolder(run), path.relative_to(run).as_posix()
    path.write_bytes(content)
    with suppress(InputError):
        if path == folder.done:
            write_checksummed_json(path, read_json(path))
            return
        totals = read_checksummed_json(folder.done)
        totals["checksums"][name] = checksum(path)
        if path == folder.manifest:
            totals[COPY] = read_json(path)
        write_checksummed_json(folder.done, totals)


def fuzz_forged(run: Path, times: int, first: int = 0) -> int:
    """The same with checksums that fit, which only malice writes: a check says what it finds, or nothing."""
    done, count, before = (run / "done.json").read_bytes(), 0, peak()
    for path, content, what in damages(run, times, first):
        forged(run, path, content)
        count += refused(partial(check, run), f"a check of {what}")
        count += refused(partial(opened, run), what)
        (run / "done.json").write_bytes(done)
    assert peak() - before < GROWTH
    return count


def test_what_has_the_checksums_of_a_run_but_is_none_is_refused(run: Path) -> None:
    fuzz_forged(run, FEW)


@pytest.mark.slow
def test_many_forged_runs(run: Path) -> None:
    print(f"{run}: {fuzz_forged(run, 600, first=FEW)} refusals of 600")


# --- unfinished -------------------------------------------------------------------------------------


class Stopped(BaseException):
    """Not an Exception: nothing that handles errors may swallow it."""


@pytest.fixture(
    params=[
        "eigenvectors",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("full", "made compact")),
    ]
)
def unfinished(
    request: pytest.FixtureRequest, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Make, dict[str, bytes]]:
    """A run that is all but finished, what goes on with it, and its bytes in the end."""

    def stop(*_: object) -> None:
        raise Stopped

    goes_on = make(request.param, model, tmp_path)
    goes_on(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("proponent.build.compact.write_checksummed_json", stop)
        patch.setattr("proponent.build.stages.finish", stop)
        with pytest.raises(Stopped):
            goes_on(tmp_path / "half")
    return tmp_path / "half", goes_on, contents(tmp_path / "whole")


def fuzz_unfinished(half: Path, goes_on: Make, whole: dict[str, bytes], times: int, first: int = 0) -> int:
    """Damage an unfinished run and go on: it ends with the same bytes, or the file is named and mended."""
    count, run = 0, half.with_name("run")
    inside = random.Random(0).sample(sorted(contents(half)), len(contents(half)))
    for seed in range(first, first + times):
        name = inside[seed % len(inside)]
        shutil.copytree(half, run)
        sound = (run / name).read_bytes()
        (run / name).write_bytes(malformed(sound, seed // len(inside), name.endswith(".json")))
        what = f"{name}, seed {seed}"
        if refused(lambda: goes_on(run), what):
            count += 1
            named = {finding.file for finding in check(run).findings}
            if name == "run.json" and name not in named:  # only who gives the settings can tell
                with pytest.raises(InputError, match="this run was made with other settings: "):
                    goes_on(run)
            else:
                assert named & {name, "run.json"}, f"{what}: only {named}"
            if name != "run.json":
                repair(run)
                goes_on(run)
        assert name == "run.json" or contents(run) == whole, what
        shutil.rmtree(run)
    return count


def test_damage_of_an_unfinished_run(unfinished: tuple[Path, Make, dict[str, bytes]]) -> None:
    assert fuzz_unfinished(*unfinished, 4) > 0


@pytest.mark.slow
def test_many_damages_of_an_unfinished_run(unfinished: tuple[Path, Make, dict[str, bytes]]) -> None:
    print(f"unfinished: {fuzz_unfinished(*unfinished, 60, first=4)} of 60 refused")


def test_a_forged_run_is_not_traced_into_a_traceback(run: Path) -> None:
    """Codes of other shapes than the run's, with their checksums."""
    index = RunFolder(run).index(0)
    forged(run, index, index.with_name("00001.safetensors").read_bytes()[:-8])
    with pytest.raises(InputError, match=r"index/00000.safetensors"):
        pp.trace(run, QUERIES, k=2, device="cpu")
