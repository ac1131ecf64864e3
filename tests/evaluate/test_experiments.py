"""Every experiment on a run of a tiny model: tables, figures, resuming, the report."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.conftest import write_facts
from tests.models import make_model

from proponent.attribute import baselines
from proponent.attribute.attribution import Attribution
from proponent.attribute.baselines import bm25
from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example
from proponent.errors import InputError
from proponent.evaluate.experiments import compact, comparisons, study, sweeps
from proponent.evaluate.experiments.catalogue import EXPERIMENTS, experiment, run_experiment
from proponent.evaluate.experiments.closed_set import ClosedSet
from proponent.evaluate.experiments.given import Given
from proponent.evaluate.experiments.report import report
from proponent.gradients.spec import FeatureSpec


def closed(run: Path, facts: Path) -> ClosedSet:
    """The closed set of a run, with few tail-patches."""
    return ClosedSet(Given(run, facts, patch_queries=4, device="cpu"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few settings, few proponents, and no sentence model."""
    monkeypatch.setattr(baselines, "embedding", lambda corpus, queries, k, _: bm25(corpus, queries, k))
    monkeypatch.setattr(comparisons, "RATES", (1e-3,))
    monkeypatch.setattr(sweeps, "LAMBDAS", (0.0, 0.9))
    monkeypatch.setattr(sweeps, "DAMPINGS", (0.1, 1.0))
    monkeypatch.setattr(sweeps, "DIMENSIONS", (24, 96))
    monkeypatch.setattr(compact, "SIZES", (64, 128))
    monkeypatch.setattr(study, "RETRIEVED", 12)


@pytest.mark.parametrize(
    ("name", "rows", "figures"),
    [
        ("table1", 13, []),
        ("topk", 13, ["figure"]),
        ("correctness", 13, []),
        ("lambda", 3, ["figure"]),
        ("damping", 4, ["figure"]),
        ("dimension", 2, ["mrr", "tail-patch"]),
        ("outputs", 5, []),
        ("rate", 3, ["figure"]),
        ("specificity", 5, []),
        ("compact", 6, ["among", "mrr"]),
    ],
)
def test_each_writes_its_table_and_figures(
    name: str, rows: int, figures: list[str], made: tuple[Path, Path]
) -> None:
    run, facts = made
    table = run_experiment(name, closed(run, facts))
    folder = run / "experiments" / name
    with (folder / "table.csv").open(newline="") as file:
        head, *body = csv.reader(file)
    assert tuple(head) == table.columns
    assert [tuple(row) for row in body] == list(table.rows)
    assert len(body) == rows
    assert table.title in (folder / "table.md").read_text()
    drawn = sorted(path.name for path in folder.iterdir() if path.suffix in (".png", ".svg"))
    assert drawn == sorted(f"{figure}{form}" for figure in figures for form in (".png", ".svg"))


def test_every_experiment_is_tested() -> None:
    elsewhere = {
        "open-set",
        "headroom",
        "scaling",
        "tasks",
        "selection",
        "lds",
        "removal",
        "significance",
    }  # files of their own
    assert set(EXPERIMENTS) - elsewhere == {
        "table1",
        "topk",
        "correctness",
        "lambda",
        "damping",
        "dimension",
        "outputs",
        "rate",
        "specificity",
        "compact",
    }


def test_compact_codes_are_set_beside_the_full_run(made: tuple[Path, Path]) -> None:
    table = run_experiment("compact", closed(*made))
    assert [row[0] for row in table.rows] == [
        f"{task}, {size}" for task in ("no task", "task mix") for size in ("192", "128", "64")
    ]
    for full in (table.rows[0], table.rows[3]):
        assert full[2].startswith("+0.000 [+0.000")
        assert full[5].startswith("1.000")
    shares = table.figures["among"].lines  # type: ignore[attr-defined]
    for line in shares.values():
        means = [found.mean for _, found in line]
        assert means == sorted(means)
        assert means[-1] == 1.0


def test_what_is_there_is_not_made_again(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run, facts = made
    for left_by_others in (run / "experiments").glob("effects-*.jsonl"):
        left_by_others.unlink()
    first = run_experiment("table1", closed(run, facts))
    (effects,) = (run / "experiments").glob("effects-*.jsonl")
    measured = effects.read_bytes()
    effects.write_bytes(measured[:-3])  # killed in the middle of a line

    def refused(*_: Any, **__: Any) -> Attribution:
        raise AssertionError("hits are traced again")

    monkeypatch.setattr(Tracer, "trace", refused)
    again = run_experiment("table1", closed(run, facts))
    assert again == first
    assert effects.read_bytes() == measured


def test_a_killed_measurement_ends_with_the_same_bytes(made: tuple[Path, Path]) -> None:
    run, facts = made
    for left_by_others in (run / "experiments").glob("effects-*.jsonl"):
        left_by_others.unlink()
    run_experiment("table1", closed(run, facts))
    (effects,) = (run / "experiments").glob("effects-*.jsonl")
    whole = effects.read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in (0, 1, len(lines) // 3, len(lines) - 2):
        effects.write_bytes(b"".join(lines[:kept]) + lines[kept][:9])
        run_experiment("table1", closed(run, facts))
        assert effects.read_bytes() == whole


def test_relations_to_choose_on_are_not_reported_on(made: tuple[Path, Path]) -> None:
    made_of = closed(*made)
    chosen, reported = made_of.ids(reported=False), made_of.ids(reported=True)
    assert len(chosen) == len(reported) == 8
    relations = [{id.split("|")[1] for id in ids} for ids in (chosen, reported)]
    assert not relations[0] & relations[1]
    assert set(made_of.patch_ids) <= set(reported)


def test_the_report_holds_every_table_and_figure(made: tuple[Path, Path]) -> None:
    run, facts = made
    run_experiment("lambda", closed(run, facts))
    page = report(run).read_text()
    assert "<h2>lambda</h2>" in page
    assert page.count("data:image/png;base64,") >= 1
    assert "http" not in page.replace("http-equiv", "")


def test_bad_input(made: tuple[Path, Path], tmp_path: Path) -> None:
    run, facts = made
    with pytest.raises(InputError, match="no experiment 'table9'; choose one of table1"):
        run_experiment("table9", closed(run, facts))
    with pytest.raises(InputError, match="no such file of facts"):
        closed(run, tmp_path / "none.jsonl")
    other = tmp_path / "other.jsonl"
    other.write_text("".join(facts.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(InputError, match="made with other facts"):
        closed(run, other)
    with pytest.raises(InputError, match="not a run"):
        closed(tmp_path, facts)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "'table1' needs --facts FACTS: proponent experiment table1 RUN --facts FACTS"),
        ({"facts": "facts.jsonl", "nli": "some/model"}, "'table1' takes no --nli MODEL: proponent"),
        ({"facts": "facts.jsonl", "queries": ["q.jsonl"]}, "'table1' takes no QUERIES: proponent"),
    ],
)
def test_what_an_experiment_lacks_or_does_not_take_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        experiment("table1", "run", **given)


def test_a_chunk_that_text_search_finds_is_of_its_passage(tmp_path: Path) -> None:
    """Gold is known by passages: a baseline has to be judged on them as a gradient method is."""
    facts = write_facts(tmp_path / "facts.jsonl")
    long = f"{'Nothing of that kind is said here. ' * 3}The capital Oslo: Norway."
    corpus = Corpus.of([Example("capital-Oslo", long, "here"), Example("b", "Cats sleep.", "here")])
    spec = FeatureSpec(model=str(make_model(tmp_path / "model")), dim=96, max_length=48, moment_sample=2)
    index = build_index(corpus, spec, tmp_path / "run", "cpu")
    assert len(index) > 2
    study = closed(tmp_path / "run", facts)
    (found,) = study.baseline("bm25")
    assert {passage.source for passage in found.proponents} == {"capital-Oslo", "b"}
    assert study.judged("BM25", study.baseline("bm25")).estimates()["MRR"].mean == 1
