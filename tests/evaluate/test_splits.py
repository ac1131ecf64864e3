"""Groups of queries by any field of their record or fact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.facts import fact_record

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.evaluate.evaluation import evaluate
from proponent.evaluate.gold import Gold
from proponent.evaluate.splits import MISSING, split_by


def hits(*values: Any, field: str = "field") -> Attribution:
    """A hit for each value, found where its number is even."""
    return Attribution(
        tuple(
            Hit(
                Query(f"q{n}", "prompt", "target", {} if value is None else {field: value}),
                (ScoredPassage("a" if n % 2 == 0 else "b", "a" if n % 2 == 0 else "b", "text", 1.0),),
                (),
            )
            for n, value in enumerate(values)
        )
    )


def gold_of(hits: Attribution) -> Gold:
    return Gold({}, {hit.query.id: frozenset({"a"}) for hit in hits})


def groups(*values: Any) -> list[tuple[str, int]]:
    found = hits(*values)
    judged = evaluate(found, gold_of(found), "hits", "field")
    return [(name, estimates["MRR"].queries) for name, estimates in judged.by_group()]


def test_words_flags_and_few_numbers_are_groups() -> None:
    assert groups("copa", "trex", "copa") == [("copa", 2), ("trex", 1)]
    assert groups(True, False, True) == [("false", 1), ("true", 2)]
    assert groups(10, 2, 0, 2) == [("0", 1), ("2", 2), ("10", 1)]  # in order of the numbers
    assert groups(0.5, None, 0.25) == [("0.25", 1), ("0.5", 1), (MISSING, 1)]


def test_many_numbers_are_cut_at_their_quartiles() -> None:
    found = hits(*range(40))
    split = split_by("field", found, gold_of(found))
    assert split.note == "field: 40 distinct numbers, cut at their quartiles"
    assert groups(*range(40)) == [("0 to 9", 10), ("10 to 19", 10), ("20 to 29", 10), ("30 to 39", 10)]


def test_equal_numbers_stay_together() -> None:
    values = [0] * 60 + list(range(1, 41))
    found = groups(*values)
    assert found[0] == ("0", 60)
    assert sum(count for _, count in found) == 100
    spread = [-1.5e6, *range(13)]
    assert groups(*spread)[0][0].startswith("-1500000 to ")


def test_what_is_no_split_is_refused() -> None:
    for values, words in (
        ((None, None), "--split field: no query has this field; there are: none"),
        ((["a"], ["b"]), "--split field: holds a list; give a field of one value"),
        ([f"v{n}" for n in range(201)], "--split field: 201 distinct values; give a field with at most 200"),
    ):
        found = hits(*values)
        with pytest.raises(InputError) as caught:
            split_by("field", found, gold_of(found))
        assert str(caught.value).startswith(words)


def test_older_names_and_fields_of_the_fact(tmp_path: Path) -> None:
    found = hits(3, 4, 3, field="c4_frequency_bucket")
    judged = evaluate(found, gold_of(found), "hits", "frequency_bucket")
    assert [name for name, _ in judged.by_group()] == ["3", "4"]
    facts = [
        fact_record(f"q{n}", (f"s{n}", "p", "o"), ["a"], "prompt") | {"fact_frequency": n // 2}
        for n in range(3)
    ]
    path = tmp_path / "facts.jsonl"
    path.write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    judged = evaluate(hits(None, None, None), Gold.read(path), "hits", "c4_frequency")
    assert judged.groups == {"q0": "0", "q1": "0", "q2": "1"}
