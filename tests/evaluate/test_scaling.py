"""Several models on the same facts and passages, and what pretraining's files say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.conftest import write_facts
from tests.models import make_model

from proponent.attribute.tracing import Tracer
from proponent.build import indexing
from proponent.build.indexing import build_index
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example
from proponent.errors import InputError
from proponent.evaluate.experiments import study
from proponent.evaluate.experiments.catalogue import experiment
from proponent.evaluate.experiments.closed_set import ClosedSet
from proponent.evaluate.experiments.given import Given
from proponent.evaluate.experiments.report import report
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.experiments.training import training_of
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index

SETTINGS = {"learning_rate": 0.0016, "batch": 32, "corpus": "abcdef0123"}
LOSSES = [{"loss": 5.0, "step": 5}, {"loss": 2.5, "step": 10}, {"train_runtime": 1.0}]
COUNTS = {"tokens": 1000, "steps": 40}


def pretrained(folder: Path, layers: int) -> Path:
    """A tiny model in a folder as pretraining leaves it, with checkpoints after 1.5 and 4 passes."""
    for steps, passes in ((15, 1.5), (40, 4.0)):
        checkpoint = make_model(
            folder / "checkpoints" / f"checkpoint-{steps}", seed=steps, num_hidden_layers=layers
        )
        (checkpoint / "trainer_state.json").write_text(json.dumps({"epoch": passes, "log_history": LOSSES}))
        (checkpoint / "pretrain.json").write_text(json.dumps({"settings": SETTINGS}))
    make_model(folder, seed=40, num_hidden_layers=layers)
    (folder / "pretrain.json").write_text(json.dumps({"settings": SETTINGS, "result": COUNTS}))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Models whose runs are made by the first test that asks, and gone on from by the others."""
    folder = tmp_path_factory.mktemp("scaled")
    small = pretrained(folder / "small", layers=2)
    other = make_model(folder / "other", "gpt2")
    return [str(small), str(small / "checkpoints" / "checkpoint-15"), str(other)]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "RETRIEVED", 12)


def scaled(made: tuple[Path, Path], models: list[str]) -> Table:
    return experiment("scaling", made[0], made[1], models=models, patch_queries=3, device="cpu")


def test_a_row_a_model_and_figures_against_size_and_tokens(
    made: tuple[Path, Path], models: list[str]
) -> None:
    run, _ = made
    table = scaled(made, models)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["model"] for row in rows][-2:] == ["small, step 15", "BM25"]
    by_name = {row["model"]: row for row in rows}
    assert set(by_name) == {"model", "small", "other", "small, step 15", "BM25"}
    sizes = [int(row["parameters"].replace(",", "")) for row in rows[:3]]
    assert sizes == sorted(sizes)
    assert {name: row["tokens read"] for name, row in by_name.items()} == {
        "model": "—",
        "small": "4,000",
        "small, step 15": "1,500",
        "other": "—",
        "BM25": "—",
    }
    assert [row["loss"] for row in rows] == [{"small": "2.50"}.get(row["model"][:5], "—") for row in rows]
    assert (by_name["model"]["step"], by_name["small"]["step"]) == ("0.001 relative", "5e-05")
    drawn = {path.name for path in (run / "experiments" / "scaling").iterdir()}
    figures = {
        f"{name}{form}"
        for name in ("size", "size-tail-patch", "tokens", "tokens-tail-patch", "loss", "loss-tail-patch")
        for form in (".png", ".svg")
    }
    assert drawn == {"table.md", "table.csv"} | figures
    page = report(run).read_text()
    assert "<h2>scaling</h2>" in page
    assert page.count("alt='scaling: ") == 6


def test_a_row_is_what_a_run_of_that_model_alone_gives(
    made: tuple[Path, Path], models: list[str], tmp_path: Path
) -> None:
    run, facts = made
    rows = {row[0]: row for row in scaled(made, models[:1]).rows}
    spec = FeatureSpec.from_dict({**Index(run).spec, "model": models[0]})
    build_index(ClosedSet(Given(run, facts)).passages, spec, tmp_path / "alone", "cpu")
    alone = ClosedSet(Given(tmp_path / "alone", facts, patch_queries=3, device="cpu"))
    scores = alone.scores({"TrackStar": alone.traced("trackstar", task=True)})["TrackStar"]
    assert rows["small"][7:10] == scores.cells


@pytest.mark.slow
def test_it_goes_on_where_it_was(
    made: tuple[Path, Path], models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scaled(made, models)

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("made again")

    monkeypatch.setattr(Tracer, "trace", refused)
    monkeypatch.setattr(indexing, "load_model", refused)
    assert scaled(made, models) == first
    with pytest.raises(AssertionError, match="made again"):
        scaled(made, [*models, models[1].replace("15", "40")])


def test_what_files_do_not_tell_is_unknown(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "small", layers=2)
    checkpoint = folder / "checkpoints" / "checkpoint-15"
    found = training_of(str(checkpoint))
    assert found is not None
    assert (found.tokens, found.step, found.loss, found.folder) == (1500, 15, 2.5, folder)
    (folder / "pretrain.json").write_text(json.dumps({"settings": SETTINGS}))  # still training
    unfinished = training_of(str(checkpoint))
    assert unfinished is not None
    assert (unfinished.tokens, unfinished.loss) == (None, None)
    (folder / "pretrain.json").write_text("[]")
    assert training_of(str(folder)) is None
    assert training_of("some/model") is None


def test_passages_that_were_cut_are_whole_again_for_another_model(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    texts = {
        "long": "A first part, a second part,\n and many more parts after it, of much length.",
        "short": "Oslo.",
    }
    corpus = Corpus.of([Example(id, text, "here") for id, text in texts.items()])
    spec = FeatureSpec(model=str(model), dim=96, max_length=40, moment_sample=2)
    index = build_index(corpus, spec, tmp_path / "run", "cpu")
    assert len(index) == 3
    facts = write_facts(tmp_path / "facts.jsonl")
    cut = ClosedSet.__new__(ClosedSet)
    cut.given = Given(tmp_path / "run", facts, device="cpu")
    assert {example.id: example.text for example in cut.passages} == texts
    (folder,) = cut.variants([{"damping": 0.5}])
    assert list(Index(folder).rows()) == list(index.rows())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": ["/no/such/model"]}, "model .*/no/such/model.* has no tokenizer that can be loaded"),
        (
            {"models": []},
            "'scaling' needs --model MODEL: proponent experiment scaling RUN --facts FACTS --model",
        ),
    ],
)
def test_bad_models(made: tuple[Path, Path], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        experiment("scaling", made[0], made[1], **changes)


def test_second_moments_of_an_optimizer_suit_its_own_model_alone(
    made: tuple[Path, Path], models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {**Index(made[0]).spec, "second_moment": "/models/optimizer.pt"}
    monkeypatch.setattr(Index, "spec", theirs)
    with pytest.raises(InputError, match=r"from an optimizer of its own model; .*--second-moment sample"):
        scaled(made, models)
