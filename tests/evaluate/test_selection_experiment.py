"""The selection experiment: who chooses for whom, trainings that resume, and a table of their losses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tests.evaluate.conftest import PLACES
from tests.references.tail_patch import target_probability

from proponent.attribute.tracing import Tracer
from proponent.evaluate.experiments import selection as experiment_of_selection
from proponent.evaluate.experiments.catalogue import experiment
from proponent.evaluate.experiments.continued import Continued
from proponent.evaluate.experiments.given import Given
from proponent.evaluate.experiments.selection import METHODS, Further, Selection


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer trainings."""
    monkeypatch.setattr(experiment_of_selection, "SEEDS", 2)
    monkeypatch.setattr(experiment_of_selection, "RATES", (1e-4, 1e-3))
    monkeypatch.setattr(experiment_of_selection, "SHARES", (0.1, 0.3))


def study_of(made: tuple[Path, Path]) -> Selection:
    return Selection(Given(made[0], made[1], device="cpu"))


def test_half_of_each_relation_chooses(made: tuple[Path, Path]) -> None:
    study = study_of(made)
    choosing, judged = ({q.id for q in study.half(judged)} for judged in (False, True))
    assert not choosing & judged
    assert len(choosing | judged) == 4 * len(PLACES)
    for relation in ("capital", "city", "seat", "port"):
        assert sum(study.group(id) == relation for id in choosing) == 2
    assert set(study.candidates.asked) == choosing


def test_passages_of_each_method(made: tuple[Path, Path]) -> None:
    study = study_of(made)
    texts = {row.text for row in study.index.rows()}
    for method in METHODS:
        chosen = study.texts(method, 3, seed=0)
        assert len(set(chosen)) == len(chosen)
        assert len(chosen) == 3 or method == "facility location"
        assert set(chosen) <= texts
    assert study.texts("random", 3, 0) != study.texts("random", 3, 1)
    assert study.texts("random", 3, 0) == study.texts("random", 3, 0)
    assert study.texts("log-det", 3, 0) == study.texts("log-det", 3, 1)


def test_training_lowers_the_loss_and_starts_anew(made: tuple[Path, Path]) -> None:
    study = study_of(made)
    name = str(study.index.spec["model"])
    model = Continued.load(name, "cpu", 48)
    before = model.losses(study.queries)
    loaded = Tracer(study.index, "cpu").model
    for query in list(study.queries)[:3]:
        p = target_probability(loaded, loaded.encoder.query(query, 48))
        assert before[query.id] == pytest.approx(-math.log(p), rel=1e-4)
    texts = [f"{query.prompt} {query.target}" for query in study.queries]
    model.train(texts, 3e-3, 0)
    after = model.losses(study.queries)
    assert sum(after.values()) < sum(before.values())
    model.train([], 3e-3, 0)
    assert model.losses(study.queries) == after
    model.restart()
    assert model.losses(study.queries) == before
    model.train(texts, 3e-3, 0)
    assert model.losses(study.queries) == pytest.approx(after)


def test_one_step_is_adamw_on_the_mean_loss(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A first step of Adam moves every weight by the rate against its gradient's sign."""
    monkeypatch.setattr("proponent.evaluate.experiments.continued.EPOCHS", 1)
    model = Continued.load(str(study_of(made).index.spec["model"]), "cpu", 48)
    text, rate = "The capital Oslo: Norway.", 1e-3
    tokens = torch.tensor([list(model.model.encoder.passage(text, 48))])
    model.model.causal(input_ids=tokens, labels=tokens).loss.backward()
    name, weight = next((n, p) for n, p in model.model.causal.named_parameters() if "down_proj" in n)
    assert weight.grad is not None
    gradient = weight.grad.clone()
    model.train([text], rate, 0)
    clear = gradient.abs() > 1e-5  # where Adam's epsilon of 1e-8 is nothing
    moved = (weight.detach() - model.start[name])[clear]
    assert moved == pytest.approx(-rate * gradient[clear].sign(), rel=0.02)


@pytest.mark.usefixtures("quick")
def test_the_table_and_its_trainings(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    table = experiment("selection", made[0], made[1], device="cpu")
    assert [row[1] for row in table.rows] == [*METHODS, *METHODS]
    assert {row[0] for row in table.rows if row[1] != "facility location"} == {"2", "5"}
    assert {row[2] for row in table.rows if row[1] == "top by sum of scores"} == {"1.00"}
    folder = made[0] / "experiments" / "selection"
    assert {"figure.png", "losses.jsonl", "table.csv", "table.md"} <= {p.name for p in folder.iterdir()}
    lines = (folder / "losses.jsonl").read_text().splitlines()
    assert len(lines) == 2 + 1 + 2 * 2 * len(METHODS)
    assert all(len(json.loads(line)["losses"]) == 16 for line in lines)
    # a row's change is the mean over seeds and judged facts
    study = study_of(made)
    known = {json.loads(line)["training"]: json.loads(line)["losses"] for line in lines}
    rate = 1e-4 if "rate 0.0001 " in table.notes[0] else 1e-3
    ids = [query.id for query in study.half(judged=True)]
    mine = [known[str(Further("log-det", 5, seed, rate))][id] for seed in range(2) for id in ids]
    start = [known[str(Further("nothing", 0, 0, 0.0))][id] for id in ids]
    change = sum(mine) / len(mine) - sum(start) / len(start)
    (row,) = (row for row in table.rows if row[:2] == ("5", "log-det"))
    assert row[3].startswith(f"{change:+.2f} ")
    own = [query.id for query in study.half(judged=False)]
    mine = [known[str(Further("log-det", 5, seed, rate))][id] for seed in range(2) for id in own]
    start = [known[str(Further("nothing", 0, 0, 0.0))][id] for id in own]
    assert row[7].startswith(f"{sum(mine) / len(mine) - sum(start) / len(start):+.2f} ")
    # a cut line is trained again, and nothing else is
    done, trained = (folder / "losses.jsonl").read_bytes(), []
    (folder / "losses.jsonl").write_bytes(done[:-20])
    real = Continued.train
    monkeypatch.setattr(Continued, "train", lambda *a: (trained.append(a), real(*a))[1])
    experiment("selection", made[0], made[1], device="cpu")
    assert len(trained) == 1
    assert (folder / "losses.jsonl").read_bytes() == done
