"""Tasks without gold: prompts and targets of several files over one run."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.conftest import PLACES
from tests.references.tail_patch import stepped_probability, target_probability

from proponent.attribute.attribution import Attribution
from proponent.attribute.tracing import Tracer
from proponent.errors import InputError
from proponent.evaluate.experiments.catalogue import experiment
from proponent.evaluate.experiments.given import Given
from proponent.evaluate.experiments.report import report
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.experiments.tasks import BM25, Tasks
from proponent.evaluate.metrics import mean


@pytest.fixture
def files(made: tuple[Path, Path], tmp_path: Path) -> list[Path]:
    """Two tasks whose ids are the same, over a run that no other test has made experiments in."""
    asked = {
        "places": [(f"{place} lies in", country) for place, country in PLACES.items()],
        "sums": [(f"{n} plus {n} is", f"{2 * n}, as everybody knows who can count") for n in range(3)],
    }
    for task, queries in asked.items():
        lines = [{"id": n, "prompt": prompt, "target": t} for n, (prompt, t) in enumerate(queries)]
        (tmp_path / f"{task}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [tmp_path / f"{task}.jsonl" for task in asked]


def asked(made: tuple[Path, Path], files: list[Path]) -> Table:
    return experiment("tasks", made[0], queries=files, patch_queries=4, device="cpu")


def test_a_row_a_task_and_method_with_figures_and_examples(
    made: tuple[Path, Path], files: list[Path]
) -> None:
    table, folder = asked(made, files), made[0] / "experiments" / "tasks"
    assert [(row[0], row[2]) for row in table.rows] == [("places", "4")] * 4 + [("sums", "3")] * 4
    methods = [row[1] for row in table.rows[:4]]
    assert methods == ["random", "BM25", "gradient cosine, V", "TrackStar"]
    assert {row[-1] for row in table.rows if row[1] == BM25} == {"1.00"}
    assert {row[6] for row in table.rows if row[1] == "TrackStar"} == {"+0.00 [+0.00, +0.00]"}
    names = {"places.png", "places.svg", "sums.png", "sums.svg", "examples.md", "examples.csv", "table.md"}
    assert names <= {path.name for path in folder.iterdir()}
    page = (folder / "examples.md").read_text()
    assert len(re.findall(r"^## (places|sums)/\d, (TrackStar|BM25), p\(target\) = ", page, re.M)) == 8
    with (folder / "examples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    first = {
        row["query"]: row["passage"]
        for row in rows
        if (row["method"], row["role"], row["rank"]) == ("TrackStar", "proponent", "1")
    }
    hits = {h.query.id: h.proponents[0].id for h in Attribution.read(folder / "hits" / "trackstar.jsonl")}
    assert first == {id: hits[id] for id in first}
    assert "<h2>tasks</h2>" in report(made[0]).read_text()


def test_nats_are_those_of_real_steps(made: tuple[Path, Path], files: list[Path]) -> None:
    asked(made, files)
    study = Tasks(Given(made[0], queries=tuple(files), patch_queries=4, device="cpu"))
    hits, t = study.traced("trackstar"), study.tracer
    effects = study.patched({"TrackStar": hits})["TrackStar"]
    found = study.nats(effects)
    assert set(map(study.group, found)) == {"places", "sums"}
    for id, nats in found.items():
        (query,) = study.queries.subset([id])
        encoded = t.model.encoder.query(query, t.spec.max_length)
        (hit,) = [h for h in study.cut(hits) if h.query.id == id]
        passages = [t.model.encoder.passage(p.text, t.spec.max_length) for p in hit.proponents]
        after = [
            stepped_probability(t.model, t.plan.matrices, t.moments, study.step, passage, encoded)
            for passage in passages
        ]
        expected = math.log(mean(after) / target_probability(t.model, encoded))
        assert nats == pytest.approx(expected, abs=1e-4)


def test_a_target_too_improbable_for_a_logarithm_is_left_out(
    made: tuple[Path, Path], files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Tasks(Given(made[0], queries=tuple(files), patch_queries=4, device="cpu"))
    study.probabilities = {"places/0": 0.0, "places/1": 0.5}
    found = study.nats({"places/0": 0.0, "places/1": 50.0})
    assert found == {"places/1": pytest.approx(math.log(2))}


def test_it_goes_on_where_it_was(
    made: tuple[Path, Path], files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = asked(made, files)
    folder = made[0] / "experiments" / "tasks"
    examples = (folder / "examples.csv").read_bytes()
    (effects,) = folder.glob("effects-*.jsonl")
    measured = effects.read_bytes()
    effects.write_bytes(measured[: len(measured) // 2])

    def refused(*_: Any, **__: Any) -> Attribution:
        raise AssertionError("traced again")

    monkeypatch.setattr(Tracer, "trace", refused)
    assert asked(made, files) == first
    assert effects.read_bytes() == measured
    assert (folder / "examples.csv").read_bytes() == examples


def test_bad_files(made: tuple[Path, Path], files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl: no such file of queries"):
        asked(made, [tmp_path / "none.jsonl"])
    asked(made, files)
    (tmp_path / "more").mkdir()
    twin = files[0].rename(tmp_path / "more" / "sums.jsonl")
    with pytest.raises(InputError, match="a task is called by its file's"):
        asked(made, [files[1], twin])
    with pytest.raises(
        InputError, match="'tasks' takes no --facts FACTS: proponent experiment tasks RUN QUERIES"
    ):
        experiment("tasks", made[0], made[1], queries=[files[1]])
    with pytest.raises(InputError, match="made with other queries"):
        asked(made, [twin])
