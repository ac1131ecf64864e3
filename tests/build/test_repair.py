"""Damage of a finished run is found, named, and made good with the same bytes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.models import make_model
from tests.runs import CORPUS, contents, model_without_letter, small_spec

from proponent.build import indexing, plan
from proponent.build import repair as repairing
from proponent.build.indexing import build_index
from proponent.build.repair import repair
from proponent.build.soundness import check
from proponent.corpus import Corpus
from proponent.errors import InputError
from proponent.gradients.model import load_model
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index

KINDS = (
    *("run.json", "done.json", "moments.safetensors", "sides.safetensors", "hessian/01.safetensors"),
    *("whitening/02.safetensors", "examples/00001.parquet", "index/00000.safetensors"),
    "index/00002.safetensors",
)


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of several shards."""
    path = tmp_path_factory.mktemp("whole") / "run"
    return build_index(CORPUS, small_spec(model, damping="oas"), path, "cpu").folder.path


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def flip(path: Path, share: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 1
    path.write_bytes(content)


def test_a_run_as_it_was_made_is_sound(whole: Path) -> None:
    found = check(whole)
    assert found.sound, str(found)
    assert str(found) == f"{whole}: sound, {len(contents(whole)) - 1} files"
    assert repair(whole) == found


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        *((name, "flipped") for name in KINDS),
        *((name, "missing") for name in KINDS if "/" in name or name == "done.json"),
        *((name, "cut") for name in ("run.json", "done.json", "sides.safetensors", KINDS[-1])),
    ],
)
def test_every_kind_of_file_comes_back_with_its_bytes(name: str, harm: str, copy: Path) -> None:
    before, path = contents(copy), copy / name
    if harm == "flipped":
        flip(path)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.unlink()
    if name == "done.json" and harm == "missing":
        assert "unfinished; run the same 'proponent index'" in str(check(copy))
        return
    found = check(copy)
    assert [finding.file for finding in found.findings] == [name]
    if name == "done.json" and harm == "cut":
        with pytest.raises(InputError, match=r"done.json: damaged, and not proven .* index the corpus again"):
            repair(copy, device="cpu")
        return
    if name.startswith("examples/"):
        with pytest.raises(InputError, match=rf"{name}: damaged; give the corpus: .* --corpus CORPUS"):
            repair(copy, device="cpu")
    made = repair(copy, CORPUS if name.startswith("examples/") else None, "cpu")
    assert made.sound, str(made)
    assert made.repaired == (name,)
    assert contents(copy) == before


@pytest.mark.parametrize("moments", ["kronecker", "none"])
def test_runs_of_other_second_moments(moments: str, model: Path, tmp_path: Path) -> None:
    build_index(CORPUS, small_spec(model, second_moment=moments, damping="oas"), tmp_path / "run", "cpu")
    assert check(tmp_path / "run").sound
    before = contents(tmp_path / "run")
    for name in ("moments", "sides", "hessian/00", "whitening/00", "index/00001"):
        flip(tmp_path / "run" / f"{name}.safetensors")
    assert repair(tmp_path / "run", device="cpu").sound
    assert contents(tmp_path / "run") == before


def test_all_of_them_at_once(copy: Path) -> None:
    before = contents(copy)
    for name in before.keys() - {"done.json"}:
        flip(copy / name)
    found = check(copy)
    assert [finding.file for finding in found.findings] == ["run.json"], "without which no other is looked at"
    made = repair(copy, CORPUS, "cpu")
    assert made.sound
    assert set(made.repaired) == before.keys() - {"done.json"}
    assert contents(copy) == before


@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.6, 0.8, 0.99])
def test_totals_that_were_hit_anywhere_are_proven_before_they_are_written(share: float, copy: Path) -> None:
    before = contents(copy)
    flip(copy / "done.json", share)
    assert repair(copy, device="cpu").sound
    assert contents(copy) == before


def test_another_corpus_is_refused_and_nothing_is_changed(copy: Path) -> None:
    flip(copy / "examples" / "00001.parquet")
    flip(copy / "index" / "00000.safetensors")
    before = contents(copy)
    with pytest.raises(InputError, match="was made of another corpus than is given"):
        repair(copy, Corpus.of(["other", "texts"]), "cpu")
    left = {name: content for name, content in contents(copy).items() if not name.startswith("work/")}
    assert left == before


def test_what_a_killed_build_left_is_named_and_removed(copy: Path) -> None:
    before = contents(copy)
    (copy / "work" / "marks").mkdir(parents=True)
    (copy / "work" / "marks" / "plan.json").write_text("{}")
    (copy / "index" / ".00000.safetensors.12-ab.part").write_text("half")
    (copy / ".lock").touch()
    assert [f.file for f in check(copy).findings] == [".lock", "index/.00000.safetensors.12-ab.part", "work"]
    assert repair(copy).sound
    assert contents(copy) == before
    (copy / "index" / "notes.txt").write_text("mine")
    assert "index/notes.txt: is no part of this run; move it elsewhere" in str(check(copy))
    assert not repair(copy).sound
    assert (copy / "index" / "notes.txt").read_text() == "mine"


def test_an_unfinished_run_is_named_with_what_of_it_is_damaged(
    model: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, run = FeatureSpec.from_dict(Index(whole).spec), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("proponent.build.stages.finish", stop)
        with pytest.raises(InputError, match="stopped"):
            build_index(CORPUS, spec, run, "cpu")
    assert [f.file for f in check(run).findings] == ["done.json"]
    flip(run / "work" / "features" / "00001.safetensors")
    flip(run / "work" / "marks" / "plan.json")
    names = ["done.json", "work/features/00001.safetensors", "work/marks/plan.json"]
    assert [f.file for f in check(run).findings] == names
    assert [f.file for f in repair(run).findings] == ["done.json"]
    build_index(CORPUS, spec, run, "cpu")
    assert contents(run) == contents(whole)


def stop(*_: object) -> None:
    raise InputError("stopped")


def test_a_repair_in_another_process_is_waited_for(copy: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    flip(copy / "index" / "00000.safetensors")
    with open(copy / ".lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ".lock: another process is working on this run" in str(check(copy))
        with pytest.raises(InputError, match="another process is building this run"):
            repair(copy)


def test_a_run_with_passages_that_were_not_kept_needs_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = model_without_letter(make_model(tmp_path / "sound"), tmp_path / "model", "G")
    loaded = load_model(str(broken), device="cpu")
    for module in (indexing, repairing):
        monkeypatch.setattr(module, "load_model", lambda *_: loaded)
    monkeypatch.setattr(plan, "SHARD_ROWS", 3)
    run = build_index(CORPUS, small_spec(broken), tmp_path / "run", "cpu").folder.path
    before = contents(run)
    for name in ("index/00000.safetensors", "sides.safetensors", "done.json", "hessian/00.safetensors"):
        flip(run / name)
        with pytest.raises(InputError, match="--corpus CORPUS"):
            repair(run, device="cpu")
        assert repair(run, CORPUS, "cpu").sound, name
        assert contents(run) == before
    os.remove(run / "examples" / "00002.parquet")
    assert repair(run, CORPUS, "cpu").repaired == ("examples/00002.parquet",)
    assert contents(run) == before
