"""Compact runs, made as the features come or of a full run: their files, scores, interruptions and repair."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.build.test_repair import flip
from tests.killing import Death, Killed
from tests.runs import CORPUS, QUERIES, contents, model_without_letter, small_spec
from torch import Tensor

import proponent as pp
from proponent.attribute.tracing import Tracer
from proponent.build import indexing, plan
from proponent.build.array import build_part, finish_index
from proponent.build.indexing import build_index, build_indexes
from proponent.build.marks import Marks
from proponent.build.processes import Processes
from proponent.errors import InputError
from proponent.files import checksum, read_checksummed_json, read_json, write_checksummed_json, write_json
from proponent.gradients.model import load_model
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index, RunFolder
from proponent.index.signs import SignRows, encode_signs
from proponent.index.sketch import Sketch
from proponent.index.storage import read_tensors
from proponent.progress import Silent

MOMENTS = ("sample", "kronecker")
WIDE = SIGNS = 2048  # features of 2 blocks of 32 x 32, and as many signs: 256 bytes
KINDS = (
    *("run.json", "done.json", "moments.safetensors", "sides.safetensors", "whitening/01.safetensors"),
    *("examples/00001.parquet", "index/00000.safetensors", "index/00002.safetensors"),
)


@pytest.fixture(scope="module", params=MOMENTS)
def full(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """A full run of small features, with either moments."""
    spec = small_spec(model, second_moment=request.param)
    return build_index(CORPUS, spec, tmp_path_factory.mktemp("full") / request.param, "cpu")


def plain(model: Path, **changes: object) -> FeatureSpec:
    """The spec of a full run that is quickly made."""
    return small_spec(model, second_moment="none", **changes)


def sized(model: Path, **changes: object) -> FeatureSpec:
    """The spec of a compact run that is made as its features come."""
    return small_spec(model, **{"second_moment": "kronecker", "size": "64B", **changes})


@pytest.fixture(scope="module", params=["compact", "index"])
def made(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compact run, made of a full run beside it or as its features came."""
    folder = tmp_path_factory.mktemp("made")
    if request.param == "index":
        build_index(CORPUS, sized(model), folder / "run", "cpu")
    else:
        build_index(CORPUS, small_spec(model), folder / "full", "cpu")
        pp.compact(folder / "full", folder / "run", 64)
    return folder / "run"


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


# --- what is in it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 1024])
def test_it_has_the_full_runs_rows_and_codes_of_its_size(full: Index, size: int, tmp_path: Path) -> None:
    codes = pp.compact(full.folder.path, tmp_path / "codes", size)
    assert list(codes.rows()) == list(full.rows())
    assert codes.summary["shards"] == full.summary["shards"]
    assert len(full.summary["shards"]) > 3
    for ours, theirs in zip(codes.shards(), full.shards(), strict=True):
        assert torch.equal(ours.feature_norms, theirs.feature_norms)
        assert torch.equal(ours.rows.norms, theirs.rows.norms)
        assert isinstance(ours.rows, SignRows)
    for number, count in enumerate(codes.summary["shards"]):
        stored = read_tensors(codes.folder.index(number))
        assert {**stored}.keys() == {"codes", "scale", "norms", "residual", "feature_norm"}
        assert (stored["codes"].dtype, stored["codes"].shape) == (torch.uint8, (count, size))
    assert not (codes.folder.path / "hessian").exists()
    assert f"{size:,} bytes a passage" in str(pp.info(codes.folder.path))


def test_the_same_rows_come_of_both_ways(model: Path, tmp_path: Path) -> None:
    """But for what float16 rounds, and for mean eigenvalues of all rows instead of a sample's."""
    full = build_index(CORPUS, replace(sized(model), size=0), tmp_path / "full", "cpu")
    codes = [build_index(CORPUS, sized(model), tmp_path / "run", "cpu")]
    codes.append(pp.compact(tmp_path / "full", tmp_path / "codes", 64))
    one, other = (torch.cat([shard.rows.signs() for shard in index.shards()]) for index in codes)  # type: ignore[union-attr]
    assert float((one == other).float().mean()) > 0.9
    norms = [torch.cat([shard.feature_norms for shard in index.shards()]) for index in codes]
    torch.testing.assert_close(*norms, rtol=1e-3, atol=0)
    assert [p.id for p in codes[0].rows()] == [p.id for p in full.rows()]


def scores(index: Index, k: int) -> Tensor:
    """Scores [q, k] of all k rows under the default method."""
    found = torch.full((len(QUERIES), k), torch.nan)
    for number, hit in enumerate(pp.trace(index, QUERIES, k=k, device="cpu")):
        for passage in hit.proponents:
            assert passage.row is not None
            found[number, passage.row] = passage.score
    return found


@pytest.mark.parametrize("moments", MOMENTS)
def test_scores_are_the_full_runs_within_what_so_many_signs_tell(
    moments: str, model: Path, tmp_path: Path
) -> None:
    """A cosine from m signs is off by √(π / 2m) at most on average, which bounds the correlation too.

    R_train of fewer rows than coordinates makes all rows alike, unless much is added to it.
    """
    changes = {"dim": WIDE, "layer_groups": 1, "damping": 100.0}
    full = build_index(CORPUS, small_spec(model, second_moment=moments, **changes), tmp_path / "full", "cpu")
    exact, deviation = scores(full, len(full)), math.sqrt(math.pi / 2 / SIGNS)
    ways = [pp.compact(tmp_path / "full", tmp_path / "codes", SIGNS // 8)]
    if moments == "kronecker":
        ways.append(build_index(CORPUS, sized(model, **changes, size=SIGNS // 8), tmp_path / "run", "cpu"))
    for codes in ways:
        found = scores(codes, len(full))
        assert float((found - exact).square().mean().sqrt()) < deviation
        assert float((found - exact).abs().max()) < 4 * deviation
        correlation = float(torch.corrcoef(torch.stack([exact.flatten(), found.flatten()]))[0, 1])
        assert correlation > 1 - deviation**2 / float(exact.var())


def test_every_method_runs_on_it(full: Index, tmp_path: Path) -> None:
    codes = Tracer(pp.compact(full.folder.path, tmp_path / "codes", 64), "cpu")
    default = "kronecker" if full.white else "trackstar"
    for method in ("dot", "cosine", default):
        (hit, *_) = codes.trace(QUERIES, method, 3)
        assert len({p.id for p in (*hit.proponents, *hit.opponents)}) == 6
    mixed = codes.trace(QUERIES, default, 3, QUERIES, 0.5)
    assert all(math.isfinite(p.score) for hit in mixed for p in hit.proponents)
    assert all(-1.001 < p.score < 1.001 for hit in codes.trace(QUERIES, default, 3) for p in hit.proponents)
    again, mixed_exactly = Tracer(full, "cpu"), {"exact_top": 12, "task": QUERIES, "mix": 0.5}
    for options in ({"method": "exact"}, {"method": "cosine", "exact_top": 12}, mixed_exactly):
        (ours, theirs) = (tracer.trace(QUERIES, k=3, **options) for tracer in (codes, again))
        for one, other in zip(ours, theirs, strict=True):
            assert [p.id for p in one.proponents] == [p.id for p in other.proponents]
            assert [p.score for p in one.proponents] == pytest.approx([p.score for p in other.proponents])


def test_what_signs_cannot_tell_is_refused(full: Index, tmp_path: Path) -> None:
    codes = pp.compact(full.folder.path, tmp_path / "codes", 64)
    with pytest.raises(InputError, match="no R_train that" if full.white else "cannot be whitened anew"):
        Index(codes.folder.path, damping=0.1)
    pp.trace(codes, QUERIES, k=2, device="cpu", diverse=True)
    with pytest.raises(InputError, match=r"compact index"):
        pp.trace(codes, QUERIES, "cosine", 2, device="cpu", diverse=True)


@pytest.mark.parametrize("everywhere", [False, True])
def test_shards_without_a_finite_gradient(everywhere: bool, tmp_path: Path, model: Path) -> None:
    """Passages 9 to 11 of the corpus fill a shard; only they have the letter, or all of them do."""
    texts = [f"{'G' if everywhere or n // 3 == 3 else 'A'}old is number {n}." for n in range(14)]
    broken = model_without_letter(model, tmp_path / "model", "G")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "load_model", lambda *_: load_model(str(broken), device="cpu"))
        if everywhere:
            with pytest.raises(InputError, match="no passage of the corpus gave a finite gradient"):
                build_index(pp.Corpus.of(texts), sized(broken), tmp_path / "run", "cpu")
            return
        spec = sized(broken, second_moment="none", hessian="identity")
        specs = {tmp_path / "run": spec, tmp_path / "full": replace(spec, size=0)}
        made, _ = build_indexes(pp.Corpus.of(texts), specs, "cpu")
    codes = pp.compact(tmp_path / "full", tmp_path / "codes", 64)
    for index in (made, codes):
        assert index.summary["shards"] == [3, 3, 3, 0, 2]
        assert pp.check(index.folder.path).sound
        assert sum(len(shard) for shard in index.shards()) == 11


# --- refused ----------------------------------------------------------------------------------------


def test_again_into_the_same_folder_it_is_verified_and_another_size_is_refused(
    full: Index, tmp_path: Path
) -> None:
    codes = tmp_path / "codes"
    pp.compact(full.folder.path, codes, 64)
    before = contents(codes)
    with pytest.MonkeyPatch.context() as patch:
        Death(patch, after=0)
        pp.compact(full.folder.path, codes, 64)
        with pytest.raises(InputError, match=r"spec.size was 64, now 128; give another folder"):
            pp.compact(full.folder.path, codes, 128)
        with pytest.raises(InputError, match=r"spec.size was 0, now 64"):
            pp.compact(full.folder.path, full.folder.path, 64)
    assert contents(codes) == before
    flip(codes / "index" / "00001.safetensors")
    with pytest.raises(InputError, match=r"index/00001.safetensors: damaged"):
        pp.compact(full.folder.path, codes, 64)


def test_what_cannot_be_compacted_is_refused_and_nothing_is_written(
    made: Path, model: Path, tmp_path: Path
) -> None:
    half, full = tmp_path / "half", tmp_path / "full"
    build_part(CORPUS, plain(model), half, (0, 2), "cpu")
    build_index(CORPUS, plain(model), full, "cpu")
    (tmp_path / "letter").mkdir()
    (tmp_path / "letter" / "a.txt").write_text("dear")
    refused: list[tuple[Path, str, int | str, str]] = [
        (made, "out", 64, "compact already; give the full run"),
        (half, "out", 64, "this run is unfinished"),
        (tmp_path / "none", "out", 64, "not a run"),
        (full, "out", "full", "size is 'full', which is what the run has"),
        (full, "out", 0, "size is '0'"),
        (full, "out", "3KB", "size is '3KB'; give 64B"),
        (full, "out", "1MB", "size is '1MB'; give 64B"),
        (full, "letter", 64, "exists and is not a run"),
    ]
    before = contents(tmp_path)
    for run, output, size, words in refused:
        with pytest.raises(InputError, match=words):
            pp.compact(run, tmp_path / output, size)
        assert contents(tmp_path) == before
        assert not (tmp_path / "out").exists()


def test_a_size_with_r_train_is_refused_before_anything_is_read(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(indexing, "load_model", begun)
    for spec in (sized(model, second_moment="sample"), sized(model, hessian="train")):
        words = "--second-moment kronecker, or make the full run and then: proponent compact RUN OUTPUT"
        with pytest.raises(InputError, match=words):
            build_index(CORPUS, spec, tmp_path / "run", "cpu")
        with pytest.raises(InputError, match=words):
            build_part(CORPUS, spec, tmp_path / "run", (0, 2), "cpu")
    assert not list(tmp_path.iterdir())


# --- interrupted ------------------------------------------------------------------------------------


class Interrupted(Silent):
    """Raises at a call of ``advance``."""

    def __init__(self, at: int) -> None:
        self.left = at

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Callable[..., None]]:
        def advance(*_: object, **__: object) -> None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

        yield advance


@contextmanager
def marks_written(most: int, whole: bool) -> Iterator[list[str]]:
    """Names of marks as they are written; one after so many is the end, before or after it is written."""
    written: list[str] = []
    write = Marks.write

    def mortal(self: Marks, task: str, *arguments: object, **counts: object) -> None:
        last = len(written) == most
        if whole or not last:
            write(self, task, *arguments, **counts)  # type: ignore[arg-type]
        if last:
            raise Killed
        written.append(task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Marks, "write", mortal)
        yield written


def ends_the_same_after_every_mark(build: Callable[[Path], object], folder: Path) -> int:
    """The number of marks, at each of which the build was killed: before the first, after the second, ..."""
    with marks_written(10**6, True) as names:
        build(folder / "whole")
    expected = contents(folder / "whole")
    for number, name in enumerate(names):
        run = folder / name
        with marks_written(number, whole=number % 2 == 1), pytest.raises(Killed):
            build(run)
        assert "unfinished" in str(pp.check(run))
        build(run)
        assert contents(run) == expected, name
    return len(names)


def test_interrupted_at_every_mark_it_ends_with_the_same_bytes(full: Index, tmp_path: Path) -> None:
    marks = ends_the_same_after_every_mark(lambda run: pp.compact(full.folder.path, run, 64), tmp_path)
    assert marks == 1 + len(full.summary["shards"])


def test_index_interrupted_at_every_mark_ends_with_the_same_bytes(model: Path, tmp_path: Path) -> None:
    marks = ends_the_same_after_every_mark(
        lambda run: build_index(CORPUS, sized(model), run, "cpu"), tmp_path
    )
    assert marks >= 6


@pytest.mark.parametrize("step", [19, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_between_two_changes_of_files_it_ends_with_the_same_bytes(
    step: int, full: Index, tmp_path: Path
) -> None:
    expected = contents(pp.compact(full.folder.path, tmp_path / "whole", 64).folder.path)
    for operations in range(0, 1000, step):
        run, killed = tmp_path / f"{operations}", False
        with pytest.MonkeyPatch.context() as patch:
            Death(patch, after=operations)
            try:
                pp.compact(full.folder.path, run, 64)
            except Killed:
                killed = True
        pp.compact(full.folder.path, run, 64)
        assert contents(run) == expected
        if not killed:
            break
    assert operations > 50


@pytest.mark.parametrize("at", [1, 3])
def test_interrupted_as_it_counts_it_goes_on_without_what_is_done(
    at: int, full: Index, tmp_path: Path
) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    with pytest.raises(KeyboardInterrupt):
        pp.compact(full.folder.path, run, 64, Interrupted(at))
    done = {path: path.stat().st_mtime_ns for path in (run / "index").iterdir()}
    assert len(done) == at
    with pytest.raises(InputError, match=r"spec.size was 64, now 128"):
        pp.compact(full.folder.path, run, 128)
    pp.compact(full.folder.path, run, 64)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert contents(run) == contents(pp.compact(full.folder.path, whole, 64).folder.path)


def test_an_unfinished_one_says_how_to_go_on(full: Index, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        pp.compact(full.folder.path, run, 64, Interrupted(2))
    assert "done.json: missing: this run is unfinished; run the same 'proponent compact' again" in str(
        pp.check(run)
    )
    flip(run / "index" / "00001.safetensors")
    with pytest.raises(InputError, match=r"index/00001.safetensors: damaged .*; remove it and run the same"):
        pp.compact(full.folder.path, run, 64)
    assert "index/00001.safetensors: damaged" in str(pp.check(run))
    assert [finding.file for finding in pp.repair(run).findings] == ["done.json"]
    pp.compact(full.folder.path, run, 64)
    assert contents(run) == contents(pp.compact(full.folder.path, tmp_path / "whole", 64).folder.path)


def test_threads_do_not_change_its_bytes(model: Path, tmp_path: Path) -> None:
    """Many signs of a single row are summed by several threads, unless they are kept from it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_ROWS", 1)
        build_index(CORPUS, plain(model), tmp_path / "full", "cpu")
    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            made.append(contents(pp.compact(tmp_path / "full", tmp_path / f"{threads}", "16KB").folder.path))
            assert torch.get_num_threads() == threads
        flip(tmp_path / "1" / "index" / "00000.safetensors")
        assert pp.repair(tmp_path / "1").sound
    finally:
        torch.set_num_threads(before)
    assert made[0] == made[1]


@pytest.mark.usefixtures("forking")
def test_several_sizes_from_one_pass_parts_and_processes_make_the_same_bytes(
    model: Path, tmp_path: Path
) -> None:
    spec, other = sized(model), sized(model, size=256, second_moment="none", hessian="identity")
    for name, own in {"a": spec, "b": other}.items():
        build_index(CORPUS, own, tmp_path / "alone" / name, "cpu")
    both = {tmp_path / "both" / "a": spec, tmp_path / "both" / "b": other}
    build_indexes(CORPUS, both, "cpu", executor=Processes(2, "cpu"))
    assert contents(tmp_path / "both") == contents(tmp_path / "alone")
    for part in (1, 0):
        build_part(CORPUS, spec, tmp_path / "parts", (part, 2), "cpu")
    finish_index(spec, tmp_path / "parts")
    assert contents(tmp_path / "parts") == contents(tmp_path / "alone" / "a")


# --- damaged ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "harm"),
    [*((name, "flipped") for name in KINDS), *((name, "missing") for name in KINDS if "/" in name)],
)
def test_every_kind_of_file_is_named_and_comes_back_with_its_bytes(name: str, harm: str, copy: Path) -> None:
    before, path = contents(copy), copy / name
    assert pp.check(copy).sound, str(pp.check(copy))
    of_full = "compacted" in Index(copy).manifest
    if harm == "flipped":
        flip(path)
    else:
        path.unlink()
    (finding,) = pp.check(copy).findings
    assert finding.file == name
    needs_corpus = name.startswith("examples/") and not of_full
    assert ("--corpus" in finding.remedy) == needs_corpus
    if needs_corpus:
        with pytest.raises(InputError, match="give the corpus"):
            pp.repair(copy, device="cpu")
    made = pp.repair(copy, CORPUS if needs_corpus else None, "cpu")
    assert made.sound, str(made)
    assert made.repaired == (name,)
    assert contents(copy) == before


def test_all_of_them_at_once(copy: Path) -> None:
    before = contents(copy)
    for name in before.keys() - {"done.json"}:
        flip(copy / name)
    made = pp.repair(copy, CORPUS, "cpu")
    assert made.sound, str(made)
    assert set(made.repaired) == before.keys() - {"done.json"}
    assert contents(copy) == before


def test_what_is_wrong_inside_sound_files_is_named(copy: Path) -> None:
    (copy / "index" / "notes.txt").write_text("mine")
    (copy / "hessian").mkdir()
    (copy / "hessian" / "00.safetensors").write_bytes(b"none of a compact run")
    (copy / "work").mkdir()
    files = [finding.file for finding in pp.check(copy).findings]
    assert files == ["index/notes.txt", "hessian/00.safetensors", "work"]


@pytest.fixture
def damaged(model: Path, tmp_path: Path) -> Path:
    """A compact run with a damaged file, and its full run beside it."""
    build_index(CORPUS, plain(model), tmp_path / "full", "cpu")
    pp.compact(tmp_path / "full", tmp_path / "run", 64)
    flip(tmp_path / "run" / "index" / "00001.safetensors")
    return tmp_path / "run"


def test_without_its_full_run_it_cannot_be_repaired(damaged: Path, model: Path) -> None:
    before, full = contents(damaged), damaged.with_name("full")
    full.rename(damaged.with_name("elsewhere"))
    with pytest.raises(
        InputError, match=r"full: the full run that .*run was made of is not there; put it back"
    ):
        pp.repair(damaged)
    build_index(CORPUS, plain(model, seed=1), full, "cpu")
    with pytest.raises(InputError, match=r"full: is not the run any more that .*run was made of"):
        pp.repair(damaged)
    shutil.rmtree(full)
    damaged.with_name("elsewhere").rename(full)
    flip(full / "index" / "00001.safetensors")
    with pytest.raises(InputError, match=r"full/index/00001.safetensors: damaged .*check RUN --repair"):
        pp.repair(damaged)
    assert contents(damaged) == before
    assert pp.repair(full).sound
    assert pp.repair(damaged).sound


def test_what_comes_out_otherwise_is_not_called_repaired(
    damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def otherwise(rows: Tensor, norms: Tensor, sketch: Sketch) -> dict[str, Tensor]:
        return encode_signs(rows, norms * 1.01, sketch)

    monkeypatch.setattr("proponent.build.compact.encode_signs", otherwise)
    found = pp.repair(damaged)
    assert found.repaired == ()
    assert [finding.file for finding in found.findings] == ["index/00001.safetensors"]


def test_runs_made_before_there_were_sizes_are_sound_and_can_be_compacted(
    model: Path, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    build_index(CORPUS, plain(model), folder.path, "cpu")
    manifest, totals = read_json(folder.manifest), read_checksummed_json(folder.done)
    del manifest["spec"]["size"]
    write_json(folder.manifest, manifest)
    checksums = {**totals["checksums"], "run.json": checksum(folder.manifest)}
    write_checksummed_json(folder.done, {**totals, "run": manifest, "checksums": checksums})
    assert pp.check(folder.path).sound, str(pp.check(folder.path))
    assert len(pp.compact(folder.path, tmp_path / "codes", 64)) == len(Index(folder.path))
    flip(folder.manifest)
    assert pp.repair(folder.path).sound
