"""Result files: what is wrong with one is named, and what one says of gold is kept and shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.facts import fact_record

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.corpus.example import Query
from proponent.corpus.facts import read_facts
from proponent.corpus.names import OLDER_NAMES
from proponent.corpus.queries import Queries
from proponent.errors import InputError
from proponent.evaluate.gold import Gold
from proponent.viewer.results import open_results

RESULT = {
    "example_id": "f1",
    "query_set": "facts",
    "inputs_plaintext": "The capital of France is",
    "targets_plaintext": "Paris",
    "proponents": ["Paris is the capital.", "Cats sleep."],
    "proponent_ids": ["a#1", "b"],
    "proponent_scores": [0.5, 1],
    "proponent_sources": ["a", "b"],
    "opponents": ["Dogs."],
    "opponent_ids": ["c"],
    "opponent_scores": [-0.5],
    "opponent_sources": ["c"],
    "fact_id": "f1",
    "relation": "capital",
    "proponent_correct": [True, False],
    "trex_sentences": ["a"],
    "entity1_alias": ["Paris, France"],
    "method": "trackstar",
    "mix": 0.25,
    "run": "runs/one",
}
FACT = fact_record("f1", ("Q1", "P1", "Q2"), ["a"], "The capital of France is") | {"entity0_alias": ["x"]}
WRONG: list[Any] = [None, True, 3, 1.5, 10**400, float("nan"), "x", "\ud83d", "", {}, {"a": 1}, [], [[]]]
WRONG += [[value] for value in (None, True, 3, 1.5, 10**400, float("nan"), "x", "\ud83d", "", {"a": 1})]
WRONG += [[value] * 2 for value in (None, True, 3, 1.5, 10**400, float("nan"), "x", "\ud83d", "")]


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def changed(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The record with each field gone, and with each of the wrong values in it."""
    for field in record:
        yield field, {name: value for name, value in record.items() if name != field}
        yield from ((field, record | {field: value}) for value in WRONG)


def read_and_show(path: Path) -> None:
    """All that is done with a result file, but evaluation."""
    hits = Attribution.read(path)
    hits.write(path.with_name("again.jsonl"))
    again = Attribution.read(path.with_name("again.jsonl"))
    assert [hit.correct() for hit in again] == [hit.correct() for hit in hits]
    assert repr(again) == repr(hits)
    f"{hits}{hits._repr_html_()}".encode()


def read_and_judge(path: Path) -> None:
    read_facts(path)
    Gold.read(path)


@pytest.mark.parametrize(("good", "use"), [(RESULT, read_and_show), (FACT, read_and_judge)])
def test_a_wrong_value_in_any_field_is_named(tmp_path: Path, good: dict[str, Any], use: Any) -> None:
    """It is read to the end or refused with its place; nothing else is raised."""
    path, refused = tmp_path / "records.jsonl", {}
    for field, record in changed(good):
        write(path, record, good | {"example_id": "other", "fact_id": "other"})
        try:
            use(path)
        except InputError as error:
            refused[field] = str(error)
    assert refused.keys() == good.keys(), "each field can be wrong"
    assert all(message.startswith(f"{path}:1: ") for message in refused.values())


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("proponents", "x", "the field 'proponents' must be a list of strings, not a string"),
        ("proponents", [None, "x"], "the list 'proponents' must hold strings only, not null"),
        ("proponent_ids", [1.5, "b"], "the list 'proponent_ids' must hold strings only, not a number"),
        ("proponent_scores", ["0.5", 1], "the list 'proponent_scores' must hold numbers only, not a string"),
        ("proponent_scores", [None, 1], "the list 'proponent_scores' must hold numbers only, not null"),
        ("proponent_scores", [True, 1], "'proponent_scores' must hold numbers only, not true or false"),
        ("proponent_correct", ["no", 0], "'proponent_correct' must hold true or false only, not a string"),
        ("proponent_correct", [True], "2 proponents with 2 ids, 2 sources, 2 scores and 1 verdicts"),
        ("targets_plaintext", ["Paris"], "the field 'targets_plaintext' must be a string, not a list"),
        ("entity1_alias", "Paris", "the field 'entity1_alias' must be a list of strings, not a string"),
        ("trex_sentences", "a", "the field 'trex_sentences' must be a list of strings, not a string"),
        ("relation", ["capital"], "the field 'relation' must be a string, not a list"),
        ("relation", "\ud83d", "the field 'relation' holds half a surrogate pair"),
        ("opponents", ["\ud83d"], "the list 'opponents' holds half a surrogate pair"),
        ("mix", "auto", "the field 'mix' must be a number, not a string"),
        ("exact_top", "many", "the field 'exact_top' must be a number of passages, 1 or more"),
        ("exact_top", 0, "the field 'exact_top' must be a number of passages, 1 or more"),
        ("exact_top", True, "the field 'exact_top' must be a number of passages, 1 or more"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, field: str, value: object, complaint: str) -> None:
    path = write(tmp_path / "hits.jsonl", RESULT | {field: value})
    with pytest.raises(InputError) as caught:
        Attribution.read(path)
    assert str(caught.value).startswith(f"{path}:1: ")
    assert complaint in str(caught.value)


def test_a_list_that_the_page_reads_must_be_one(tmp_path: Path) -> None:
    for name in ("opponents", "proponent_ids", "proponent_correct"):
        path = write(tmp_path / "hits.jsonl", RESULT | {name: "x"})
        with pytest.raises(InputError, match=rf"hits\.jsonl:1: the field '{name}' must be a list, not a str"):
            open_results([path])


# --- gold -------------------------------------------------------------------------------------------


def paper_file(path: Path) -> Path:
    """A line of the paper's release: no sources, no ids of gold passages, but its own verdicts."""
    ours = {
        "proponent_sources",
        "opponent_sources",
        "trex_sentences",
        "entity1_alias",
        "method",
        "mix",
        "run",
    }
    return write(path, {name: value for name, value in RESULT.items() if name not in ours})


def test_a_papers_file_keeps_and_shows_its_own_verdicts(tmp_path: Path) -> None:
    hits = Attribution.read(paper_file(tmp_path / "hits.jsonl"))
    assert hits[0].correct() == [True, False]
    assert repr(hits).count("✓") == 1
    assert hits._repr_html_().count("✓ gold") == 1
    hits.write(tmp_path / "again.jsonl")
    record = json.loads((tmp_path / "again.jsonl").read_text())
    assert record["proponent_correct"] == [True, False]
    assert (record["query_set"], record["fact_id"], record["relation"]) == ("facts", "f1", "capital")


def test_all_who_ask_for_gold_get_one_answer(tmp_path: Path) -> None:
    """The result record, the table, the notebook and the evaluation, of a fresh hit and of its file."""
    passages = (ScoredPassage("a#1", "a", "x", 1.0), ScoredPassage("b", "b", "y", 0.5))
    fresh = Attribution((Hit(Query("f1", "p", "t", {"trex_sentences": ["a"]}), passages, passages[:1]),))
    fresh.write(tmp_path / "hits.jsonl")
    gold = Gold.read(write(tmp_path / "facts.jsonl", FACT))
    for hits, marks in ((fresh, 2), (Attribution.read(tmp_path / "hits.jsonl"), 1)):
        (hit,) = hits
        assert gold.correct(hit) == hit.correct() == hit.record()["proponent_correct"] == [True, False]
        # of opponents a result file says nothing
        assert repr(hits).count("✓") == hits._repr_html_().count("✓ gold") == marks
        assert replace(hit, proponents=hit.proponents[1:]).correct() == [False]


def test_the_facts_of_an_evaluation_judge_whatever_a_file_says(tmp_path: Path) -> None:
    (hit,) = Attribution.read(paper_file(tmp_path / "hits.jsonl"))
    other = Gold.read(write(tmp_path / "facts.jsonl", FACT | {"trex_sentences": ["b"]}))
    assert other.correct(hit) == [False, True]
    assert hit.correct() == [True, False]


def test_a_query_that_is_no_fact_has_no_verdicts() -> None:
    hit = Hit(Query("q", "p", "t"), (ScoredPassage("a", "a", "x", 1.0),), ())
    assert hit.correct() is None
    assert "proponent_correct" not in hit.record()
    assert hit.record()["query_set"] == "queries"
    assert "gold" not in repr(hit)


def test_half_a_character_from_python_is_written_as_its_escape(tmp_path: Path) -> None:
    hit = Hit(Query("q", "p", "t"), (ScoredPassage("a", "a", "half \ud83d", 1.0),), ())
    Attribution((hit,), {"run": "caf\udce9"}).write(tmp_path / "hits.jsonl")
    record = json.loads((tmp_path / "hits.jsonl").read_text("utf-8"))
    assert (record["proponents"], record["run"]) == (["half \ud83d"], "caf\udce9")
    repr(hit).encode()


PAPER = {
    **{name: value for name, value in RESULT.items() if name not in ("trex_sentences", "run")},
    "8b_generations": ["Paris", "Lyon"],
    "8b_confidence": 0.5,
    "c4_frequency": 12,
    "c4_frequency_bucket": 3,
    "has_trex_sentence": True,
    "is_8b_correct": True,
    "groundtruth": "Paris",
    "task": "trex",
    "proponent_ranks": [1, 7],
    "proponent_ais_scores": [0.9, 0.1],
    "proponent_ais_best_windows": ["Paris is", None],
    "anything": {"else": [1]},
}


def test_every_field_of_a_result_file_is_kept(tmp_path: Path) -> None:
    hits = Attribution.read(write(tmp_path / "hits.jsonl", PAPER))
    assert hits[0].query.fields["proponent_ais_scores"] == [0.9, 0.1]
    hits.write(tmp_path / "again.jsonl")
    assert json.loads((tmp_path / "again.jsonl").read_text()) == PAPER | {"run": None}


def test_older_names_are_read_as_the_newer(tmp_path: Path) -> None:
    newer = {newer: older for older, newer in OLDER_NAMES.items()}
    old = {newer.get(name, name): value for name, value in PAPER.items() if name != "example_id"}
    assert not old.keys() & {"fact_id", "c4_frequency"}
    (hit,) = Attribution.read(write(tmp_path / "old.jsonl", old))
    assert hit.query.id == "f1"
    assert {name: hit.query.fields[name] for name in newer} == {name: PAPER[name] for name in newer}
    (hit,) = Attribution.read(write(tmp_path / "both.jsonl", PAPER | {"fact_frequency": 99}))
    assert hit.query.fields["c4_frequency"] == 12


def test_columns_of_passages_go_with_the_passages(tmp_path: Path) -> None:
    """A list that was cut, or a new trace of the same queries, keeps none of them."""
    path = write(tmp_path / "hits.jsonl", PAPER)
    (hit,) = Attribution.read(path)
    cut = replace(hit, proponents=hit.proponents[:1]).record()
    assert not cut.keys() & {"proponent_ranks", "proponent_ais_scores", "proponent_ais_best_windows"}
    assert cut["c4_frequency"] == 12
    for queries in (Queries.read(path), Queries.of([hit.query])):
        assert not any(name.startswith("proponent") for name in queries[0].fields)
        assert queries[0].fields["8b_confidence"] == 0.5
