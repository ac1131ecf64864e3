from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proponent.corpus import Fact, Query, read_facts
from proponent.corpus.facts import gold_ids
from proponent.errors import InputError

FACT = {
    "fact_id": "Q142|P36|Q90",
    "entity0": "France",
    "relation": "capital",
    "entity1": "Paris",
    "entity0_uri": "Q142",
    "predicate_uri": "P36",
    "entity1_uri": "Q90",
    "entity0_alias": ["France", "French Republic"],
    "entity1_alias": [],
    "trex_sentences": ["s1", "s2"],
    "prompt0": "The capital of France is",
    "c4_frequency": 12,
}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_fact_is_read_field_by_field(tmp_path: Path) -> None:
    (fact,) = read_facts(write(tmp_path / "facts.jsonl", FACT))
    assert fact == Fact(
        fact_id="Q142|P36|Q90",
        entity0="France",
        relation="capital",
        entity1="Paris",
        entity0_uri="Q142",
        predicate_uri="P36",
        entity1_uri="Q90",
        entity0_alias=("France", "French Republic"),
        entity1_alias=(),
        trex_sentences=("s1", "s2"),
        prompt0="The capital of France is",
    )
    assert fact.triple == ("Q142", "P36", "Q90")


def test_lists_may_be_missing_or_null(tmp_path: Path) -> None:
    bare = {name: value for name, value in FACT.items() if name != "entity0_alias"} | {"trex_sentences": None}
    (fact,) = read_facts(write(tmp_path / "facts.jsonl", bare))
    assert (fact.entity0_alias, fact.trex_sentences) == ((), ())


@pytest.mark.parametrize("field", [name for name, value in FACT.items() if isinstance(value, str)])
def test_a_missing_or_wrong_string_is_named(tmp_path: Path, field: str) -> None:
    wrong = {"gone": {k: v for k, v in FACT.items() if k != field}}
    wrong |= {"list": FACT | {field: ["x"]}, "empty": FACT | {field: ""}}
    for row in wrong.values():
        path = write(tmp_path / "facts.jsonl", FACT | {"fact_id": "other"}, row)
        with pytest.raises(InputError, match=rf"facts\.jsonl:2: .*'{field}'"):
            read_facts(path)


@pytest.mark.parametrize("field", ["entity0_alias", "entity1_alias", "trex_sentences"])
def test_a_wrong_list_is_named(tmp_path: Path, field: str) -> None:
    with pytest.raises(InputError, match=rf"facts\.jsonl:1: the field '{field}' must be a list of strings"):
        read_facts(write(tmp_path / "facts.jsonl", FACT | {field: "Paris"}))
    with pytest.raises(InputError, match=rf"facts\.jsonl:1: the list '{field}' must hold strings only"):
        read_facts(write(tmp_path / "facts.jsonl", FACT | {field: ["a", None]}))


def test_gold_ids_are_of_facts_alone_and_may_be_numbers() -> None:
    """As the corpus reads its own ids: 3 and "3" are one id, in a file of facts and in a query."""
    assert gold_ids(Query("q", "p", "t")) is None
    assert gold_ids(Query("q", "p", "t", {"trex_sentences": None})) is None
    assert gold_ids(Query("q", "p", "t", {"trex_sentences": []})) == frozenset()
    assert gold_ids(Query("q", "p", "t", {"trex_sentences": ["a", 3]})) == {"a", "3"}
    with pytest.raises(InputError, match="here: the list 'trex_sentences' must hold strings only, not true"):
        gold_ids(Query("q", "p", "t", {"trex_sentences": [True]}, "here"))


def test_a_repeated_fact_names_both_places(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"facts\.jsonl:2: the id 'Q142\|P36\|Q90' was already .*:1"):
        read_facts(write(tmp_path / "facts.jsonl", FACT, FACT))


def test_a_file_without_facts_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no facts in it"):
        read_facts(write(tmp_path / "facts.jsonl"))


def test_the_real_facts_are_read(shared_dir: Path) -> None:
    facts = read_facts(shared_dir / "trex" / "facts.jsonl.gz")
    assert len(facts) == 16407
    assert facts[1].triple == ("Q1000534", "P1303", "Q6607")
