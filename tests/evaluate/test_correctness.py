"""What a model says: accepted answers, and the file that keeps its answers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.evaluate.correctness import Prediction, accepted_answers, begins_with_answer, predictions
from proponent.progress import Silent


def test_aliases_are_answers_and_must_be_a_list() -> None:
    query = Query("q", "p", "Paris", {"entity1_alias": ["City of Light", "", "Paris"]}, "f.jsonl:1")
    assert accepted_answers(query) == ["Paris", "City of Light"]
    with pytest.raises(InputError, match=r"f.jsonl:1: the field 'entity1_alias' must be a list"):
        accepted_answers(Query("q", "p", "Paris", {"entity1_alias": "Pa"}, "f.jsonl:1"))


@pytest.mark.parametrize(
    ("text", "right"), [(" paris.", True), ("Parisian", False), ("The  city OF light", False), ("", False)]
)
def test_an_answer_is_whole_words_at_the_beginning(text: str, right: bool) -> None:
    assert begins_with_answer(text, ["Paris", "city of light"]) is right


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["{"], "p.jsonl:1: no prediction; remove the file"),
        (['{"query_id": "q"}'], "p.jsonl:1: no prediction"),
        (["[1]"], "p.jsonl:1: no prediction"),
        ([], "p.jsonl: no prediction of 'q'; remove the file"),
    ],
)
def test_a_damaged_file_of_predictions(lines: list[str], words: str, tmp_path: Path) -> None:
    model: Any = None  # whoever reads the file asks no model
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match=words):
        predictions(model, [Query("q", "p", "t")], tmp_path / "p.jsonl", Silent())
    said = Prediction("q", " t", True, 1.0)
    (tmp_path / "p.jsonl").write_text(json.dumps(asdict(said)) + "\n")
    assert predictions(model, [Query("q", "p", "t")], tmp_path / "p.jsonl", Silent()) == {"q": said}
