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
from proponent.demo.story import Demo, Scores, run_demo
from proponent.errors import InputError
from proponent.index.run import Index
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
        "demo.json",
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
    assert list(made.retrieval) == METHODS
    assert list(made.probabilities) == [f"f{n}" for n in range(len(COUNTRIES))]
    assert all(0 <= p < 0.5 for p in made.probabilities.values()), "a random model knows nothing"
    assert made.known == 0
    assert 0 <= made.shown.settings["mix"] < 1
    answers = [
        json.loads(line) for line in (made.folder / "predictions.jsonl").read_text("utf-8").splitlines()
    ]
    assert [answer["query_id"] for answer in answers] == list(made.probabilities)
    assert all(answer["share"] == answer["correct"] for answer in answers), "the greedy answer alone"
    for every, _ in made.retrieval.values():
        assert 0 <= every.top <= every.mrr <= every.recall <= 1
    assert made.retrieval["BM25"][0].top == 1, "BM25 finds what repeats the words of the fact"


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
    assert over_all_facts(again) == over_all_facts(made)
    assert again.known == 3
    assert [hit.query.id for hit in again.shown] == ["f2", "f8", "f3"], "known ones, in turn from relations"
    check_page(again, capsys, monkeypatch)


def over_all_facts(made: Demo) -> list[Scores]:
    return [every for every, _ in made.retrieval.values()]


def check_page(made: Demo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The printed page of a demo whose model knows three facts."""
    monkeypatch.setenv("COLUMNS", "80")
    print_demo(made)
    out = capsys.readouterr().out
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[0].startswith("The model knows 3 of the 10 facts")
    assert "Oman's letter is → O   p = 0.75" in lines
    assert "Does the top passage state the fact?  All 10 facts, and the 3 known ones:" in lines
    rows = [line for line in lines if line.startswith(tuple(METHODS)) and "%" in line]
    assert len(rows) == len(METHODS)
    assert rows[-1].split() == ["BM25", "100.0%", "1.000", "1.000", "100.0%", "1.000", "1.000"]
    assert max(map(len, lines[:-11])) <= 80
    assert shlex.split(lines[-4]) == [
        "look:",
        "proponent",
        "view",
        str(made.folder / "hits" / "trackstar-task-mix.jsonl"),
        str(made.folder / "hits" / "bm25.jsonl"),
        str(made.folder / "predictions.jsonl"),
    ]
    facts = str(made.folder / "corpus" / "facts.jsonl")
    ask = ["ask:", "proponent", "view", str(made.folder / "run"), "--task", facts]
    assert shlex.split(lines[-3]) == ask
    assert shlex.split(lines[-2])[1:] == [
        "proponent",
        "trace",
        str(made.folder / "run"),
        "--prompt",
        "Oman's letter is",
        "--target",
        "O",
    ]


# --- interrupted, or in a folder of something else --------------------------------------------------


class Lines(Silent):
    """Keeps the lines that were said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_demo_says_what_is_there_and_goes_on(
    made: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny(monkeypatch)
    folder, said = tmp_path / "demo", []
    for part in ("pretrain", "build_index", "predictions"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(demo_module, part, interrupted)
            with pytest.raises(KeyboardInterrupt):
                run_demo(folder, 0, first := Lines())
        said.append(first.lines[0])
    again = run_demo(folder, 0, last := Lines())
    begun = f"{folder}: a demo was begun here; there already: "
    assert said[0].startswith("corpus: "), "a new demo has nothing to say of what is there"
    assert said[1] == f"{begun}corpus; going on with: trained model"
    assert said[2] == f"{begun}corpus, trained model; going on with: index"
    assert last.lines[0] == f"{begun}corpus, trained model, index; going on with: answers"
    assert over_all_facts(again) == over_all_facts(made)
    run_demo(folder, 0, last := Lines())
    assert last.lines[0] == f"{begun}corpus, trained model, index, answers; going on with: results"


@pytest.mark.parametrize("name", ["corpus/facts.jsonl", "demo.json", "notes.txt"])
def test_a_folder_of_something_else_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny(monkeypatch)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine", "utf-8")
    with pytest.raises(InputError, match=r"is not empty and holds no demo .* give an empty or new folder"):
        run_demo(tmp_path, 0, Silent())
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {tmp_path / name}
    assert (tmp_path / name).read_text("utf-8") == "mine"
    with pytest.raises(InputError, match="is not empty"):
        run_demo(tmp_path / name, 0, Silent())


def test_a_demo_of_another_seed_is_refused(made: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")}
    tiny(monkeypatch)
    with pytest.raises(InputError, match=r"holds a demo of seed 0, not of 1; give another folder"):
        run_demo(made.folder, 1, Silent())
    assert {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")} == before


def test_a_demo_killed_before_its_record_can_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(monkeypatch)
    (tmp_path / ".demo.json.1-ab.part").write_text("{")
    run_demo(tmp_path, 0, said := Lines())
    assert said.lines[0].startswith("corpus: ")
    assert len(Index(tmp_path / "run")) == 2 * len(COUNTRIES)
