"""What experiments keep goes by the runs that it was made of, not by their names alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from proponent.attribute.tracing import Tracer
from proponent.build import indexing
from proponent.build.indexing import build_index
from proponent.corpus.corpus import Corpus
from proponent.errors import InputError
from proponent.evaluate.experiments import keeping
from proponent.evaluate.experiments.closed_set import ClosedSet
from proponent.evaluate.experiments.facts_study import WHITE
from proponent.evaluate.experiments.given import Given
from proponent.evaluate.experiments.keeping import identity
from proponent.evaluate.experiments.lds import Halves
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index

DAMPED = {"damping": 0.5}
EARLIER, LATER = 1_000_000_000, 2_000_000_000  # times of files, in seconds
Made = tuple[Path, Path]


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Made:
    """A run for one test, and its facts."""
    shutil.copytree(made[0], tmp_path / "run", ignore=shutil.ignore_patterns("experiments", "variants"))
    return tmp_path / "run", made[1]


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, runs are built as by a version that draws other projections."""

    def change() -> None:
        fold, draw = indexing.fold_moments, indexing.gaussian_projection
        monkeypatch.setattr(indexing, "fold_moments", lambda plan, of, seed: fold(plan, of, seed + 1))
        monkeypatch.setattr(indexing, "gaussian_projection", lambda of, side, seed: draw(of, side, seed + 1))

    return change


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were traced in, in order."""
    traced, real = list[str](), Tracer.trace

    def trace(self: Tracer, *given: Any, **more: Any) -> Any:
        traced.append(Path(self.index.folder.name).name)
        return real(self, *given, **more)

    monkeypatch.setattr(Tracer, "trace", trace)
    return traced


def closed(made: Made) -> ClosedSet:
    return ClosedSet(Given(*made, patch_queries=2, device="cpu"))


def halves(made: Made) -> Halves:
    return Halves(Given(*made, device="cpu"))


def at(path: Path, seconds: int) -> Path:
    """Set a file's time."""
    os.utime(path, (seconds, seconds))
    return path


def built_anew(run: Path, corpus: Corpus, **change: Any) -> None:
    """Put another run in place of one, with its experiments and variants."""
    new = run.with_name("new")
    build_index(corpus, spec_of(run, **change), new, "cpu")
    for name in ("experiments", "variants"):
        if (run / name).exists():
            (run / name).rename(new / name)
    shutil.rmtree(run)
    new.rename(run)


def test_hits_of_a_variant_that_was_built_anew_are_made_again(
    copied: Made, newer: Callable[[], None], traces: list[str]
) -> None:
    (variant,) = closed(copied).variants([DAMPED])
    first, own = closed(copied).traced("cosine", run=variant), closed(copied).traced("cosine")
    assert closed(copied).traced("cosine", run=variant) == first
    assert len(traces) == 2, "kept"
    shutil.rmtree(variant)
    newer()
    assert closed(copied).variants([DAMPED]) == [variant]
    again = closed(copied).traced("cosine", run=variant)
    assert len(traces) == 3
    assert again != first
    expected = Tracer(variant, "cpu").trace(closed(copied).queries, "cosine", len(Index(variant)))
    assert [hit.proponents for hit in again] == [hit.proponents for hit in expected]
    assert closed(copied).traced("cosine", run=variant) == again
    assert closed(copied).traced("cosine") == own
    assert len(traces) == 4, "this test's own alone: those of the run itself stand"


def test_averaged_hits_are_of_every_run(copied: Made, newer: Callable[[], None], traces: list[str]) -> None:
    changes = [{**WHITE, "dim": dim} for dim in (96, 24)]
    runs = closed(copied).variants(changes)
    first = closed(copied).averaged_hits(runs, "kronecker")
    assert closed(copied).averaged_hits(runs, "kronecker") == first
    assert len(traces) == 1
    shutil.rmtree(runs[1])
    newer()
    assert closed(copied).variants(changes) == runs
    assert closed(copied).averaged_hits(runs, "kronecker") != first
    assert len(traces) == 2


def test_scores_of_a_variant_that_was_built_anew_are_made_again(
    copied: Made, newer: Callable[[], None]
) -> None:
    (variant,) = halves(copied).variants([{**WHITE, "dim": 24, "moment_sample": 4}])
    first = halves(copied).exact_scores("exact", variant)
    kept = halves(copied).folder / "scores" / f"exact-projected-no-in-{variant.name}.safetensors"
    at(kept, LATER)
    assert torch.equal(halves(copied).exact_scores("exact", variant), first)
    assert kept.stat().st_mtime == LATER
    shutil.rmtree(variant)
    newer()
    halves(copied).variants([{**WHITE, "dim": 24, "moment_sample": 4}])
    halves(copied).exact_scores("exact", variant)
    assert kept.stat().st_mtime != LATER


def test_two_stages_are_of_both_their_runs(copied: Made) -> None:
    study = halves(copied)
    (white,) = study.variants([{**WHITE, "dim": 24}])
    codes = study.compact(white, 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Halves, "inside_by_row", torch.ones(len(study.index), 1))
        study.two_stages(codes, white)
    (name,) = (study.folder / "hits").iterdir()
    noted = json.loads((study.folder / "made_of.json").read_text())
    assert noted[f"hits/{name.name}"] == [identity(codes), identity(white)]


def test_effects_go_by_the_run_whose_second_moments_the_steps_take(
    made: Made, tmp_path: Path, newer: Callable[[], None]
) -> None:
    """Of a run that TrackStar cannot search, that is what the paper makes of its passages."""
    run = tmp_path / "run"
    passages = closed((shutil.copytree(made[0], tmp_path / "as-the-paper-has-it"), made[1])).passages
    build_index(passages, spec_of(made[0], **WHITE), run, "cpu")
    study = closed((run, made[1]))
    first = study.patched({"random": study.baseline("random")})
    (effects,) = study.folder.glob("effects-*.jsonl")
    lines = map(json.loads, effects.read_text().splitlines())
    effects.write_text("".join(json.dumps({**line, "points": 9.5}) + "\n" for line in lines))
    assert study.run != run
    changed = closed((run, made[1]))
    of_file = changed.patched({"random": changed.baseline("random")})["random"]
    assert set(of_file.values()) == {9.5}, "kept"
    shutil.rmtree(study.run)
    newer()
    again = closed((run, made[1]))
    assert again.patched({"random": again.baseline("random")})["random"] == pytest.approx(first["random"])


def test_what_was_kept_before_there_was_a_record_counts_by_its_age(copied: Made, traces: list[str]) -> None:
    (variant,) = closed(copied).variants([DAMPED])
    first = closed(copied).traced("cosine", run=variant)
    (hits,) = (closed(copied).folder / "hits").iterdir()
    record = closed(copied).folder / "made_of.json"
    noted = record.read_text()
    for when, again in ((EARLIER, True), (LATER, False)):
        record.unlink()
        at(hits, when)
        assert closed(copied).traced("cosine", run=variant) == first
        assert (len(traces) == 2) == again
        assert record.read_text() == noted
        traces[1:] = []


def test_a_kill_leaves_no_file_with_the_note_of_another(
    copied: Made, newer: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (variant,) = closed(copied).variants([DAMPED])
    closed(copied).traced("cosine", run=variant)
    (hits,) = (closed(copied).folder / "hits").iterdir()
    shutil.rmtree(variant)
    newer()
    closed(copied).variants([DAMPED])

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    study = closed(copied)
    monkeypatch.setattr(keeping, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        study.traced("cosine", run=variant)
    assert not hits.exists()


def test_a_damaged_record_is_named(copied: Made) -> None:
    study = closed(copied)
    (study.folder / "made_of.json").write_text("[")
    with pytest.raises(InputError, match=r"made_of.json: damaged; remove it"):
        study.baseline("bm25")


def test_another_run_in_place_of_the_one_that_was_examined_is_refused(copied: Made) -> None:
    study = closed(copied)
    built_anew(copied[0], study.passages, seed=5)
    with pytest.raises(
        InputError, match=r"experiments: its experiments were made with other files of the run;"
    ):
        closed(copied)
    shutil.rmtree(study.folder)
    assert len(closed(copied).baseline("bm25")) == 16


def test_experiments_from_before_the_run_was_in_their_record_count_by_their_age(copied: Made) -> None:
    record = closed(copied).folder / "study.json"
    noted = record.read_text()
    before = {name: value for name, value in json.loads(noted).items() if name != keeping.RUN}
    record.write_text(json.dumps(before))
    at(record, EARLIER)
    with pytest.raises(InputError, match=r"study.json: is older than .*done.json, .*; touch it if they are"):
        closed(copied)
    at(record, LATER)
    closed(copied)
    assert record.read_text() == noted
    record.write_text(json.dumps({**before, "seed": 3}))
    with pytest.raises(InputError, match="made with other seed"):
        closed(copied)


def test_variants_of_what_a_run_was_before_are_refused(copied: Made) -> None:
    run, passages = copied[0], closed(copied).passages
    closed(copied).variants([DAMPED])
    for corpus, change, what in (
        (passages, {"layer_groups": 1}, "settings"),
        (Corpus.of([*passages][1:]), {}, "passages"),
    ):
        original = shutil.copytree(run, run.with_name(f"before-{what}"))
        built_anew(run, corpus, **change)
        shutil.rmtree(run / "experiments")
        with pytest.raises(InputError, match=rf"variants/damping-0.5: has other {what} than .*; remove it"):
            closed(copied).variants([DAMPED])
        shutil.rmtree(run)
        original.rename(run)
    closed(copied).variants([DAMPED])


def spec_of(run: Path, **change: Any) -> FeatureSpec:
    """A run's spec with some changes."""
    return FeatureSpec.from_dict({**Index(run).spec, **change})
