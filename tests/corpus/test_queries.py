from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proponent.corpus import Queries, Query
from proponent.errors import InputError


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_prompt_and_target_with_and_without_id(tmp_path: Path) -> None:
    path = write(
        tmp_path / "q.jsonl",
        {"prompt": "a", "target": "b", "id": 3},
        {"prompt": "c", "target": "d", "note": "kept"},
    )
    first, second = Queries.read(path)
    assert (first.id, first.prompt, first.target) == ("3", "a", "b")
    assert (second.id, second.place) == ("q.jsonl:2", f"{path}:2")
    assert second.fields == {"prompt": "c", "target": "d", "note": "kept"}


def test_facts_are_understood(tmp_path: Path) -> None:
    fact = {"fact_id": "f", "entity0": "France", "entity1": "Paris", "prompt0": "The capital of France is"}
    (query,) = Queries.read(write(tmp_path / "facts.jsonl", fact))
    assert (query.id, query.prompt, query.target) == ("f", "The capital of France is", "Paris")
    assert query.fields == fact


def test_result_files_are_understood_without_their_results(tmp_path: Path) -> None:
    asked = {
        "example_id": 12,
        "fact_id": "f",
        "query_set": "s",
        "inputs_plaintext": "in",
        "targets_plaintext": "out",
    }
    results = {
        "proponents": ["p"],
        "proponent_ids": ["1"],
        "proponent_scores": [0.5],
        "proponent_correct": [True],
        "opponents": ["o"],
        "opponent_ids": ["2"],
        "opponent_scores": [-0.5],
    }
    (query,) = Queries.read(write(tmp_path / "hits.jsonl", asked | results))
    assert (query.id, query.prompt, query.target, query.fields) == ("12", "in", "out", asked)


def test_the_id_field_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", {"prompt": "a", "target": "b", "id": 3, "key": "k"})
    assert Queries.read(path, id_field="key")[0].id == "k"
    with pytest.raises(InputError, match=r"q\.jsonl:1: no field 'nokey'"):
        Queries.read(path, id_field="nokey")


def test_a_limit_ends_the_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", {"prompt": "a", "target": "b"}, "not an object")
    assert len(Queries.read(path, limit=1)) == 1
    with pytest.raises(InputError, match="a limit of -1 queries"):
        Queries.read(path, limit=-1)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"prompt": "a", "answer": "b"}, "no prompt and target (prompt/target, inputs_plaintext/targets"),
        ({"prompt": "a", "target": 1889}, "the field 'target' must be a string, not a number"),
        ({"prompt": None, "target": "b"}, "the field 'prompt' must be a string, not null"),
        ({"prompt": " \n", "target": "b"}, "the prompt is empty"),
        ({"prompt": "a", "target": ""}, "the target is empty"),
    ],
)
def test_what_is_no_query_is_named_with_its_line(tmp_path: Path, row: Any, complaint: str) -> None:
    path = write(tmp_path / "q.jsonl", {"prompt": "fine", "target": "fine"}, row)
    with pytest.raises(InputError) as caught:
        Queries.read(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert complaint in str(caught.value)


def test_a_repeated_id_names_both_places(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", *[{"prompt": "a", "target": "b", "id": "same"}] * 2)
    with pytest.raises(InputError, match=r"q\.jsonl:2: the id 'same' was already given at .*q\.jsonl:1"):
        Queries.read(path)


def test_a_file_without_queries_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no queries in it"):
        Queries.read(write(tmp_path / "q.jsonl"))


def test_queries_are_a_sequence() -> None:
    queries = Queries(tuple(Query(str(n), "p", "t") for n in range(5)))
    assert len(queries) == 5
    assert queries[1].id == "1"
    assert queries[1:3] == Queries((queries[1], queries[2]))
    assert [query.id for query in queries] == list("01234")
    assert queries.subset(["3", "0"]) == Queries((queries[0], queries[3]))
    with pytest.raises(InputError, match="no query has the id '9'"):
        queries.subset(["0", "9"])


def test_one_query_of_prompt_and_target() -> None:
    assert list(Queries.of("p", "t")) == [Query("query", "p", "t")]
    with pytest.raises(InputError, match="query: the target is empty"):
        Queries.of("p", " ")


def test_the_real_facts_are_understood(shared_dir: Path) -> None:
    queries = Queries.read(shared_dir / "trex" / "facts.jsonl.gz")
    assert len(queries) == 16407
    assert (queries[1].prompt, queries[1].target) == ("Bud Scott plays", "guitar")
    assert queries[1].fields["relation"] == "instrument"


def test_queries_of_pairs_and_of_queries() -> None:
    own = Query("mine", "c", "d")
    queries = Queries.of([("a", "b"), own, ["e", "f"]])
    assert list(queries) == [
        Query("0", "a", "b", place="query 0"),
        own,
        Query("2", "e", "f", place="query 2"),
    ]
    assert Queries.of(queries) is queries
    assert list(Queries.of(pair for pair in [("a", "b")])) == [queries[0]]


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ("facts.jsonl", "query 0 is a string; give a Query or a pair .*; a file is read with Queries.read"),
        (("The capital is", "Paris"), "query 0 is a string"),
        ([("a", "b", "c")], "query 0 is tuple; give a Query or a pair"),
        ([("a", "b"), 3], "query 1 is a number"),
        ([("a", None)], "query 0: the target must be a string, not null"),
        ([("a", "b"), ("half \ud83d", "b")], "query 1: the prompt holds half a surrogate pair"),
        ([("a", " ")], "query 0: the target is empty"),
        (
            [Query("1", "a", "b"), ("c", "d"), Query("1", "e", "f")],
            "query 1: the id '1' was already given at query",
        ),
    ],
)
def test_what_is_no_query_is_refused(asked: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Queries.of(asked)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("entity1_alias", "Paris", "the field 'entity1_alias' must be a list of strings, not a string"),
        ("entity1_alias", ["\ud83d"], "the list 'entity1_alias' holds half a surrogate pair"),
        ("trex_sentences", [None], "the list 'trex_sentences' must hold strings only, not null"),
        ("relation", {"a": 1}, "the field 'relation' must be a string, not an object"),
        ("query_set", "\ud83d", "the field 'query_set' holds half a surrogate pair"),
    ],
)
def test_a_field_that_is_used_later_is_checked_where_it_is_read(
    tmp_path: Path, field: str, value: object, complaint: str
) -> None:
    path = write(tmp_path / "q.jsonl", {"prompt": "a", "target": "b", field: value})
    with pytest.raises(InputError, match=rf"q\.jsonl:1: {complaint}"):
        Queries.read(path)
