"""Every experiment on a run of a tiny model: tables, figures, resuming, the report."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tests.facts import fact_record
from tests.models import make_model

from proponent.attribute.attribution import Attribution
from proponent.attribute.baselines import bm25
from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example
from proponent.errors import InputError
from proponent.evaluate.experiments import comparisons, study, sweeps
from proponent.evaluate.experiments.catalogue import EXPERIMENTS, run_experiment
from proponent.evaluate.experiments.report import report
from proponent.evaluate.experiments.study import Study
from proponent.gradients.spec import FeatureSpec

PLACES = {"Oslo": "Norway", "Rome": "Italy", "Lima": "Peru", "Cairo": "Egypt"}


def write_facts(path: Path) -> Path:
    records = [
        fact_record(
            f"{subject}|{relation}|{thing}",
            (subject, relation, thing),
            [f"{relation}-{subject}"],
            f"{subject} is a {relation} of",
        )
        for relation in ("capital", "city", "seat", "port")
        for subject, thing in PLACES.items()
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of 16 gold sentences, and its facts."""
    folder = tmp_path_factory.mktemp("experiments")
    facts = write_facts(folder / "facts.jsonl")
    corpus = Corpus.of(
        [
            Example(f"{relation}-{subject}", f"The {relation} {subject}: {thing}.", "here")
            for relation in ("capital", "city", "seat", "port")
            for subject, thing in PLACES.items()
        ]
    )
    model = make_model(folder / "model", bos_token_id=0)
    spec = FeatureSpec(model=str(model), dim=6 * 16, max_length=48, batch_tokens=500, moment_sample=8)
    build_index(corpus, spec, folder / "run", "cpu")
    return folder / "run", facts


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few settings, few proponents, and no sentence model."""
    monkeypatch.setattr(comparisons, "embedding", bm25)
    monkeypatch.setattr(comparisons, "RATES", (1e-3,))
    monkeypatch.setattr(sweeps, "LAMBDAS", (0.0, 0.9))
    monkeypatch.setattr(sweeps, "DAMPINGS", (0.1, 1.0))
    monkeypatch.setattr(sweeps, "DIMENSIONS", (24, 96))
    monkeypatch.setattr(study, "RETRIEVED", 12)


@pytest.mark.parametrize(
    ("name", "rows", "figures"),
    [
        ("table1", 11, []),
        ("topk", 11, ["figure"]),
        ("correctness", 11, []),
        ("lambda", 3, ["figure"]),
        ("damping", 4, ["figure"]),
        ("dimension", 2, ["mrr", "tail-patch"]),
        ("outputs", 5, []),
        ("rate", 3, ["figure"]),
        ("specificity", 5, []),
    ],
)
def test_each_writes_its_table_and_figures(
    name: str, rows: int, figures: list[str], made: tuple[Path, Path]
) -> None:
    run, facts = made
    table = run_experiment(name, Study(run, facts, patch_queries=4, device="cpu"))
    folder = run / "experiments" / name
    with (folder / "table.csv").open(newline="") as file:
        head, *body = csv.reader(file)
    assert tuple(head) == table.columns
    assert [tuple(row) for row in body] == list(table.rows)
    assert len(body) == rows
    assert table.title in (folder / "table.md").read_text()
    drawn = sorted(path.name for path in folder.iterdir() if path.suffix in (".png", ".svg"))
    assert drawn == sorted(f"{figure}{form}" for figure in figures for form in (".png", ".svg"))


def test_every_experiment_is_tested_above() -> None:
    assert set(EXPERIMENTS) == {
        "table1",
        "topk",
        "correctness",
        "lambda",
        "damping",
        "dimension",
        "outputs",
        "rate",
        "specificity",
    }


def test_what_is_there_is_not_made_again(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run, facts = made
    for left_by_others in (run / "experiments").glob("effects-*.jsonl"):
        left_by_others.unlink()
    first = run_experiment("table1", Study(run, facts, patch_queries=4, device="cpu"))
    (effects,) = (run / "experiments").glob("effects-*.jsonl")
    measured = effects.read_bytes()
    effects.write_bytes(measured[:-3])  # killed in the middle of a line

    def refused(*_: Any, **__: Any) -> Attribution:
        raise AssertionError("hits are traced again")

    monkeypatch.setattr(Tracer, "trace", refused)
    again = run_experiment("table1", Study(run, facts, patch_queries=4, device="cpu"))
    assert again == first
    assert effects.read_bytes() == measured


def test_a_killed_measurement_ends_with_the_same_bytes(made: tuple[Path, Path]) -> None:
    run, facts = made
    for left_by_others in (run / "experiments").glob("effects-*.jsonl"):
        left_by_others.unlink()
    run_experiment("table1", Study(run, facts, patch_queries=4, device="cpu"))
    (effects,) = (run / "experiments").glob("effects-*.jsonl")
    whole = effects.read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in (0, 1, len(lines) // 3, len(lines) - 2):
        effects.write_bytes(b"".join(lines[:kept]) + lines[kept][:9])
        run_experiment("table1", Study(run, facts, patch_queries=4, device="cpu"))
        assert effects.read_bytes() == whole


def test_relations_to_choose_on_are_not_reported_on(made: tuple[Path, Path]) -> None:
    made_of = Study(*made, device="cpu")
    chosen, reported = made_of.ids(reported=False), made_of.ids(reported=True)
    assert len(chosen) == len(reported) == 8
    relations = [{id.split("|")[1] for id in ids} for ids in (chosen, reported)]
    assert not relations[0] & relations[1]
    assert set(made_of.patch_ids) <= set(reported)


def test_the_report_holds_every_table_and_figure(made: tuple[Path, Path]) -> None:
    run, facts = made
    run_experiment("lambda", Study(run, facts, device="cpu"))
    page = report(run).read_text()
    assert "<h2>lambda</h2>" in page
    assert page.count("data:image/png;base64,") >= 1
    assert "http" not in page.replace("http-equiv", "")


def test_bad_input(made: tuple[Path, Path], tmp_path: Path) -> None:
    run, facts = made
    with pytest.raises(InputError, match="no experiment 'table9'; choose one of table1"):
        run_experiment("table9", Study(run, facts))
    with pytest.raises(InputError, match="no such file of facts"):
        Study(run, tmp_path / "none.jsonl")
    other = tmp_path / "other.jsonl"
    other.write_text("".join(facts.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(InputError, match="other facts or another seed"):
        Study(run, other)
    with pytest.raises(InputError, match="not a run"):
        Study(tmp_path, facts)
