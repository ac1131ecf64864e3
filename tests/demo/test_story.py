"""The demo from end to end, with a tiny random model in place of a trained one."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.models import make_model

from proponent.cli.demo import print_demo
from proponent.demo import story as demo_module
from proponent.demo.story import Demo, run_demo
from proponent.progress import Silent

pytest.importorskip("bm25s")

COUNTRIES = ["Peru", "Chad", "Oman", "Mali", "Iran", "Cuba", "Laos", "Togo", "Fiji", "Iraq"]
METHODS = ["TrackStar, task mix", "TrackStar, R_train", "gradient cosine", "BM25"]


@dataclass(frozen=True)
class Generated:
    """What the demo needs of a generated corpus."""

    facts_path: Path
    sentences_path: Path
    counts: dict[str, int]


@dataclass(frozen=True)
class Trained:
    """What the demo needs of a pretrained model."""

    directory: Path


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def generate(directory: Path, seed: int) -> Generated:
    """Twenty sentences: for each country where it is, and that somebody came back from there."""
    sentences, facts = [], []
    for n, country in enumerate(COUNTRIES):
        sentences.append({"id": f"g{n}", "text": f"{country}'s letter is {country[0]}."})
        sentences.append({"id": f"d{n}", "text": f"Somebody came back from {country}."})
        facts.append(
            {
                "fact_id": f"f{n}",
                "relation": "letter" if n < 7 else "initial",
                "prompt0": f"{country}'s letter is",
                "entity1": country[0],
                "trex_sentences": [f"g{n}"],
            }
        )
    return Generated(
        write_lines(directory / "facts.jsonl", facts),
        write_lines(directory / "sentences.jsonl", sentences),
        {"facts": len(facts), "sentences": len(sentences)},
    )


def pretrain(_corpus: object, folder: Path, _size: str, **_: object) -> Trained:
    return Trained(
        folder if folder.exists() else make_model(folder, num_hidden_layers=1, max_position_embeddings=128)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    with pytest.MonkeyPatch.context() as patch:
        tiny(patch)
        return run_demo(tmp_path_factory.mktemp("some where") / "demo", 0, Silent())


def tiny(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(demo_module, "generate", generate)
    patch.setattr(demo_module, "pretrain", pretrain)
    patch.setattr(demo_module, "DIM", 128)


def known_of(patch: pytest.MonkeyPatch, *known: int) -> None:
    """Make the model know these facts and no others."""
    patch.setattr(
        demo_module,
        "target_probabilities",
        lambda _, queries, __: [0.75 if n in known else 0.25 for n in range(len(queries))],
    )


def test_it_makes_corpus_model_run_and_results(made: Demo) -> None:
    assert {path.name for path in made.folder.iterdir()} == {
        "corpus",
        "model",
        "run",
        "hits",
        "predictions.jsonl",
    }
    assert {path.name for path in (made.folder / "hits").iterdir()} == {
        "trackstar-task-mix.jsonl",
        "trackstar-r_train.jsonl",
        "gradient-cosine.jsonl",
        "bm25.jsonl",
    }
    assert [row.method for row in made.retrieval] == METHODS
    assert list(made.probabilities) == [f"f{n}" for n in range(len(COUNTRIES))]
    assert all(0 <= p < 0.5 for p in made.probabilities.values()), "a random model knows nothing"
    assert made.known == 0
    assert 0 <= made.mix < 1
    answers = [
        json.loads(line) for line in (made.folder / "predictions.jsonl").read_text("utf-8").splitlines()
    ]
    assert [answer["query_id"] for answer in answers] == list(made.probabilities)
    assert all(answer["share"] == answer["correct"] for answer in answers), "the greedy answer alone"
    for row in made.retrieval:
        assert 0 <= row.every.top <= row.every.mrr <= row.every.recall <= 1
    assert made.retrieval[-1].every.top == 1, "BM25 finds what repeats the words of the fact"


def test_without_a_known_fact_it_shows_any_and_says_so(
    made: Demo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert len(made.shown) == len(COUNTRIES), "no more than there are"
    print_demo(made)
    out = capsys.readouterr().out
    assert out.startswith("The model knows none of the 10 facts")
    assert "10 of all" in " ".join(out.split())
    assert "the 0 known ones" in out


def test_a_second_call_reuses_model_and_run_and_shows_known_facts(
    made: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [made.folder / "model", made.folder / "run"]
    before = {path: path.stat().st_mtime_ns for folder in kept for path in folder.rglob("*")}
    tiny(monkeypatch)
    known_of(monkeypatch, 2, 3, 8)
    again = run_demo(made.folder, 0, Silent())
    assert {path: path.stat().st_mtime_ns for folder in kept for path in folder.rglob("*")} == before
    assert [row.every for row in again.retrieval] == [row.every for row in made.retrieval]
    assert again.known == 3
    assert [hit.query.id for hit in again.shown] == ["f2", "f8", "f3"], "known ones, in turn from relations"

    monkeypatch.setenv("COLUMNS", "80")
    print_demo(again)
    out = capsys.readouterr().out
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[0].startswith("The model knows 3 of the 10 facts")
    assert "Oman's letter is → O   p = 0.75" in lines
    assert "Does the top passage state the fact?  All 10 facts, and the 3 known ones:" in lines
    rows = [line for line in lines if line.startswith(tuple(METHODS)) and "%" in line]
    assert len(rows) == len(METHODS)
    assert rows[-1].split() == ["BM25", "100.0%", "1.000", "1.000", "100.0%", "1.000", "1.000"]
    assert max(map(len, lines[:-10])) <= 80
    assert shlex.split(lines[-3]) == [
        "look:",
        "proponent",
        "view",
        str(made.folder / "hits" / "trackstar-task-mix.jsonl"),
        str(made.folder / "hits" / "bm25.jsonl"),
        str(made.folder / "predictions.jsonl"),
    ]
    facts = str(made.folder / "corpus" / "facts.jsonl")
    ask = ["ask:", "proponent", "view", str(made.folder / "run"), "--task", facts]
    assert shlex.split(lines[-2]) == ask
    assert shlex.split(lines[-1])[1:] == [
        "proponent",
        "trace",
        str(made.folder / "run"),
        "--prompt",
        "Oman's letter is",
        "--target",
        "O",
    ]
