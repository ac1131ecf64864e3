"""Faults of compact runs: any byte of any file flipped, and a full run that is moved, changed or damaged."""

from __future__ import annotations

import random
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.build.test_repair import flip
from tests.reliability.test_fuzz_runs import make
from tests.runs import CORPUS, QUERIES, contents, small_spec

import proponent as pp
from proponent.attribute.attribution import Attribution
from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index
from proponent.errors import InputError

SLOW = pytest.mark.slow


def flip_every_file(kind: str, model: Path, folder: Path, times: int) -> int:
    """Flip a byte of each file of a compact run so many times; how often a trace had nothing to refuse.

    Each time the file is named by a check, a trace is refused or the sound run's, by a process that had the
    run open as by a new one, and a repair ends with the same bytes.
    """
    make(kind, model, folder)(run := folder / "run")
    chosen, sound, unseen = random.Random(0), contents(run), 0
    opened = Tracer(run, "cpu")
    expected = opened.trace(QUERIES, k=3)
    for name in sorted(sound) * times:
        flip(run / name, chosen.random())
        named = [finding.file for finding in pp.check(run).findings]
        assert named == [name], f"{name}: {named}"
        for tracer in (opened, None):
            with suppress(InputError):
                found = (tracer or Tracer(run, "cpu")).trace(QUERIES, k=3)
                assert found == expected, name
                unseen += 1
        assert pp.repair(run, CORPUS, "cpu").sound, name
        assert contents(run) == sound, name
    return unseen


@pytest.mark.parametrize(
    ("kind", "times"),
    [("eigenvectors", 1), *(pytest.param(kind, 4, marks=SLOW) for kind in ("eigenvectors", "compacted"))],
)
def test_a_byte_of_any_file_flipped_is_named_and_never_an_answer(
    kind: str, times: int, model: Path, tmp_path: Path
) -> None:
    unseen = flip_every_file(kind, model, tmp_path, times)
    print(f"{kind}: {times} flips of {len(contents(tmp_path / 'run'))} files, {unseen} traces not refused")


# --- the full run of a compact one ------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """A compact run, the full run beside it, and what the full run answers."""

    folder: Path
    answer: Attribution

    @property
    def full(self) -> Path:
        return self.folder / "full"

    @property
    def codes(self) -> Path:
        return self.folder / "codes"

    def traced(self, codes: Path | None = None, full: Path | None = None) -> Attribution:
        return pp.trace(codes or self.codes, QUERIES, k=3, device="cpu", certified="sure", full=full)


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    build_index(CORPUS, small_spec(model), folder / "full", "cpu")
    pp.compact(folder / "full", folder / "codes", 64)
    return Pair(folder, pp.trace(folder / "full", QUERIES, k=3, device="cpu"))


@pytest.fixture
def pair(made: Pair, tmp_path: Path) -> Pair:
    """A copy of the pair elsewhere, the one that was made put away meanwhile: its place is not there."""
    shutil.copytree(made.folder, tmp_path / "copy")
    made.folder.rename(away := made.folder.with_name("away"))
    return Pair(tmp_path / "copy", made.answer) if away.exists() else made


@pytest.fixture(autouse=True)
def _put_back(made: Pair) -> object:
    yield
    if (away := made.folder.with_name("away")).exists():
        away.rename(made.folder)


def same(found: Attribution, answer: Attribution) -> bool:
    """Whether the same passages were found, and are certain to be the right ones."""
    for one, other in zip(found, answer, strict=True):
        assert one.certificate is not None
        assert one.certificate.confidence == 1
        if [p.id for p in one.proponents] != [p.id for p in other.proponents]:
            return False
    return True


def answer_or_refusal(tracer: Tracer) -> Attribution | str:
    try:
        return tracer.trace(QUERIES, k=3, certified="sure")
    except InputError as error:
        return str(error)


def test_a_pair_that_is_moved_together_is_found(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    assert same(pair.traced(), pair.answer)
    flip(pair.codes / "index" / "00001.safetensors")
    assert pp.repair(pair.codes).sound
    monkeypatch.chdir(pair.codes)
    assert same(pair.traced(Path(".")), pair.answer)
    before = contents(pair.codes)
    pp.compact(pair.full, pair.codes, 64)
    assert contents(pair.codes) == before, "it is the same run, wherever it is"


def test_a_full_run_that_is_moved_alone_has_to_be_said(pair: Pair) -> None:
    moved = pair.full.rename(pair.folder.parent / "elsewhere")
    words = r"full: the full run that .*codes was made of is not there; .* say where it is with --full RUN"
    with pytest.raises(InputError, match=words):
        pair.traced()
    assert same(pair.traced(full=moved), pair.answer)
    flip(pair.codes / "index" / "00001.safetensors")
    with pytest.raises(InputError, match=words):
        pp.repair(pair.codes)
    assert pp.repair(pair.codes, full=moved).sound
    for other in (pair.codes, pair.folder):
        with pytest.raises(InputError, match=r"is not the run any more|is not there"):
            pair.traced(full=other)


def test_a_full_run_that_is_changed_or_damaged_gives_no_certificate(pair: Pair, model: Path) -> None:
    tracer = Tracer(pair.codes, "cpu")
    assert same(tracer.trace(QUERIES, k=3, certified="sure"), pair.answer)
    for path in sorted(path for path in pair.full.rglob("*") if path.is_file()):
        content, refused = path.read_bytes(), 0
        flip(path, 0.7)
        for again in (tracer, None):
            found = answer_or_refusal(again or Tracer(pair.codes, "cpu"))
            if isinstance(found, str):
                refused += 1
                assert str(path) in found or path.name in ("done.json", "run.json"), found
            else:
                assert same(found, pair.answer), path
        name = path.relative_to(pair.full).parts[0]
        assert refused == (2 if name in ("done.json", "run.json", "index", "whitening") else 0), path
        path.write_bytes(content)
    shutil.rmtree(pair.full)
    build_index(CORPUS, small_spec(model, seed=1), pair.full, "cpu")
    with pytest.raises(InputError, match=r"full: is not the run any more that .*codes was made of"):
        tracer.trace(QUERIES, k=3, certified="sure")


def test_a_full_run_that_goes_away_meanwhile_is_named(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look for it and the reading of its rows."""
    real = pp.Index.only

    def gone(self: pp.Index, *arguments: object) -> object:
        if pair.full.exists():
            pair.full.rename(pair.folder / "gone")
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pp.Index, "only", gone)
    with pytest.raises(InputError, match=r"full/index/0000\d.safetensors: missing"):
        pair.traced()
