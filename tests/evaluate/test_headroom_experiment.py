"""The headroom analysis of a run of a tiny model: table, figure, raw files, resuming."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.facts import fact_record
from tests.models import make_model

from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example
from proponent.errors import InputError
from proponent.evaluate.entailment import Pair
from proponent.evaluate.experiments import headroom
from proponent.evaluate.experiments.catalogue import experiment
from proponent.evaluate.experiments.report import report
from proponent.evaluate.headroom import Category
from proponent.gradients.spec import FeatureSpec

TEXTS = {
    "s0": "The capital of Norway is Oslo.",
    "s1": "The capital of Italy is Rome.",
    "s2": "Oslo lies in Norway.",
    "s3": "Rome was not built in a day.",
    "s4": "Lima is the capital of Peru.",
    "s5": "The weather is fine.",
}
SAYS = {"norway": " Oslo, a city", "italy": " Lima and", "peru": " of the"}  # right, wrong, no answer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six sentences beside its facts and annotated sentences, where the model has been asked."""
    folder = tmp_path_factory.mktemp("headroom")
    model = make_model(folder / "model", bos_token_id=0)
    spec = FeatureSpec(model=str(model), dim=6 * 16, max_length=48, batch_tokens=500, moment_sample=6)
    corpus = Corpus.of([Example(id, text, "here") for id, text in TEXTS.items()])
    build_index(corpus, spec, folder / "run", "cpu")
    places = (("s0", "Norway", "Oslo"), ("s1", "Italy", "Rome"), ("s4", "Peru", "Lima"))
    lines(
        folder / "facts.jsonl",
        [
            fact_record(land.lower(), (land, "capital", city), [gold], f"The capital of {land} is")
            for gold, land, city in places
        ],
    )
    lines(
        folder / "sentences.jsonl",
        [
            {"sentence_id": "s3", "fact_triples": [["Rome", "age", "old"]]},
            {"sentence_id": "s5", "fact_triples": []},
        ],
    )
    ask(folder / "run", SAYS)
    return folder / "run"


def lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def ask(run: Path, says: dict[str, str]) -> None:
    """Leave a file of the model's answers; the first is right."""
    made = [
        {"query_id": id, "text": text, "correct": id == "norway", "share": 0.0} for id, text in says.items()
    ]
    lines(run / "experiments" / "headroom" / "predictions.jsonl", made)


def read(run: Path, name: str) -> list[dict[str, str]]:
    with (run / "experiments" / "headroom" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def made(run: Path, **given: Any) -> Any:
    return experiment("headroom", run, run.parent / "facts.jsonl", device="cpu", **given)


def test_shares_of_every_group_and_method(run: Path) -> None:
    table = made(run, sentences=run.parent / "sentences.jsonl")
    groups = [
        f"{a}: {m}" for a in ("right", "wrong, own answer", "wrong, truth") for m in ("TrackStar", "BM25")
    ]
    assert table.columns == ("category", *groups)
    for column in list(zip(*table.rows, strict=True))[1:]:
        assert sum(float(cell.split()[0]) for cell in column) == pytest.approx(100, abs=0.5)
    # all six sentences are retrieved for each query: what they have is known
    rows = read(run, "categories.csv")
    assert len(rows) == 2 * (1 + 1 + 2) * len(TEXTS)
    found = {
        (row["query"], row["model is"], row["passage"]): row["category"]
        for row in rows
        if row["method"] == "BM25"
    }
    norway = [Category.ENTAILED, Category.RELATION, Category.BOTH, Category.NONE, Category.RELATION]
    assert [found["norway", "right", id] for id in TEXTS] == [*norway, Category.NO_ENTITY_NOT_KNOWN]
    lima = [Category.RELATION, Category.SUBJECT, Category.NO_ENTITY_NOT_KNOWN, Category.NONE]
    lima += [Category.TARGET_RELATION, Category.NO_ENTITY_NOT_KNOWN]
    assert [found["italy", "wrong, own answer", id] for id in TEXTS] == lima
    assert found["italy", "wrong, truth", "s3"] == Category.TARGET
    assert {row["target"] for row in rows if row["model is"] == "wrong, own answer"} == {"Lima"}
    assert "right for 1 of 3 facts. Of the others it answers 1 with" in table.notes[1]
    assert "1 of them one of an entity" in table.notes[1]


def test_examples_are_of_every_category_and_leave_room_for_a_label(run: Path) -> None:
    made(run, sentences=run.parent / "sentences.jsonl")
    rows, examples = read(run, "categories.csv"), read(run, "examples.csv")
    assert {row["category"] for row in examples} == {row["category"] for row in rows}
    assert all(row["text"] == TEXTS[row["passage"]] and row["label"] == "" for row in examples)
    keys = [(row["query"], row["model is"], row["passage"]) for row in examples]
    assert len(keys) == len(set(keys)) == len(rows) / 2


class Says:
    """Judges that a passage entails what is said of a city that it names."""

    name = identity = "says"

    def __init__(self, *_: object) -> None:
        self.asked: list[Pair] = []

    def windows(self, pair: Pair) -> list[str]:
        return [pair.premise]

    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        self.asked += pairs
        return [float(pair.query.target in pair.premise) for pair in pairs]


def test_passages_without_annotations_are_judged_by_a_model(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headroom, "NliModel", Says)
    table = made(run, sentences=run.parent / "sentences.jsonl", nli="says")
    assert "'says' judges the others" in table.notes[-1]
    found = {
        (row["query"], row["model is"], row["passage"]): row["category"]
        for row in read(run, "categories.csv")
    }
    assert found["norway", "right", "s2"] == Category.ENTAILED  # no annotation, and the city is named
    assert found["italy", "wrong, truth", "s3"] == Category.TARGET  # annotated: the model is not asked
    verdicts = run / "experiments" / "headroom" / "verdicts-says.jsonl"
    judged = verdicts.read_bytes()
    made(run, sentences=run.parent / "sentences.jsonl", nli="says")
    assert verdicts.read_bytes() == judged


def test_the_report_shows_the_table_and_the_bars(run: Path) -> None:
    made(run)
    folder = run / "experiments" / "headroom"
    assert {"table.md", "table.csv", "figure.png", "figure.svg"} <= {path.name for path in folder.iterdir()}
    page = report(run).read_text()
    assert "<h2>headroom</h2>" in page
    assert "headroom: figure" in page


def test_what_is_there_is_not_made_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(run, sentences=run.parent / "sentences.jsonl")
    monkeypatch.delattr(Tracer, "trace")
    assert made(run, sentences=run.parent / "sentences.jsonl") == first
    without = made(run)  # other annotations need no other hits
    assert without.rows != first.rows
    said = "3 of 6 rows are annotated with triples; of the others only names are known."
    assert without.notes[-1] == said


def test_a_model_that_is_right_or_says_nothing_has_no_own_answers(run: Path) -> None:
    ask(run, dict.fromkeys(SAYS, " of the"))
    try:
        assert not any("own" in column for column in made(run).columns)
    finally:
        ask(run, SAYS)


def test_bad_input(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'headroom' needs --facts FACTS: .* \[--sentences SENTENCES\]"):
        experiment("headroom", run)
    with pytest.raises(InputError, match=r"none\.jsonl"):
        made(run, sentences=tmp_path / "none.jsonl")
