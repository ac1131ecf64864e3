"""The verb `select`, and `trace` with passages that do not repeat each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.running import Command, Made


def test_a_subset_as_a_table_and_as_a_corpus(proponent: Command, made: Made, tmp_path: Path) -> None:
    answer = proponent("select", made.run, made.facts, "--budget", "3")
    assert answer.code == 0
    assert "supports" in answer.out.splitlines()[0]
    assert "3 passages chosen from 5; at least " in answer.err
    kept = tmp_path / "subset.jsonl"
    answer = proponent("select", made.run, made.facts, "--budget", "3", "-o", kept, "--json")
    assert answer.code == 0
    assert kept.read_text() == answer.out
    assert f"written to {kept}" in answer.err
    assert proponent("index", kept, tmp_path / "run", "--model", made.model, "--dim", "70").code == 0
    again = proponent("select", made.run, made.facts, "--budget", "2", "-o", kept, "--function", "log-det")
    assert again.code == 0, "a subset may be written over"
    assert len(kept.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--budget", "0"], "--budget is 0; give 1 or more"),
        (["--budget", "99"], "the budget is 99; this run holds 5 passages"),
        (["--budget", "2", "--function", "sum"], "--function is 'sum'; choose one of support, log-det"),
        (["--budget", "2", "--decay", "2"], "--decay is 2.0; give 0 to 1"),
        (["--budget", "2", "--epsilon", "0"], "--epsilon is 0.0; give more than 0"),
        (["--budget", "2", "--epsilon", "1"], "epsilon is 1.0; give more than 0 and less than 1"),
        (["--budget", "2", "--epsilon", "0.1", "--per-source", "1"], "give only one of both"),
        (["--budget", "2", "--mix", "0.5"], "a mix of 0.5 needs a task"),
        (["--budget", "2", "--method", "trak"], "method 'trak' does not fit"),
        (["--budget", "2", "-o", "FACTS"], "is an input of this command"),
        ([], "Missing option"),
    ],
)
def test_what_select_refuses(
    proponent: Command, made: Made, tmp_path: Path, words: list[str], complaint: str
) -> None:
    words = [str(made.facts) if word == "FACTS" else word for word in words]
    proponent("select", made.run, made.facts, *words).assert_refused(complaint)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_file_is_not_replaced(proponent: Command, made: Made, tmp_path: Path) -> None:
    other = tmp_path / "mine.jsonl"
    other.write_text('{"id": "a", "text": "my own corpus"}\n')
    answer = proponent("select", made.run, made.facts, "--budget", "2", "-o", other)
    answer.assert_refused("is there already and is no subset of a corpus")


def test_diverse_and_merged_proponents(proponent: Command, made: Made) -> None:
    words = ["trace", made.run, "--prompt", "France's capital is", "--target", "Paris", "-k", "2"]
    plain, diverse = proponent(*words, "--json"), proponent(*words, "--diverse", "--json")
    first, found = json.loads(plain.out), json.loads(diverse.out)
    assert "proponent_adds" not in first
    assert found["proponent_ids"][0] == first["proponent_ids"][0]
    assert found["proponent_adds"][0] == pytest.approx(found["proponent_scores"][0])
    merged = json.loads(proponent(*words, "--merge-duplicates", "--json").out)
    assert merged["proponent_duplicates"] == [[], []]
    assert "adds" in proponent(*words, "--diverse").out
