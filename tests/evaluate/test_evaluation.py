"""Judging hits against gold facts."""

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
from proponent.evaluate.gold import Gold, asked_by


def fact(id: str, relation: str, gold: list[str]) -> dict[str, Any]:
    subject, predicate, thing = id.split("|")
    return fact_record(id, (subject, predicate, thing), gold, f"{subject} {relation}", relation)


FACTS = [
    fact("a|p|x", "likes", ["s1", "s2"]),
    fact("b|p|y", "likes", ["s3"]),
    fact("c|q|z", "owns", ["s4"]),
    fact("d|q|w", "owns", []),
]


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def hit(id: str, *found: str) -> Hit:
    passages = tuple(ScoredPassage(name, name.split("#")[0], f"text of {name}", 1.0) for name in found)
    return Hit(Query(id, "prompt", "target"), passages, ())


HITS = Attribution(
    (
        hit("a|p|x", "s9", "s2", "s1"),
        hit("b|p|y", "s3#1", "s9", "s8"),
        hit("c|q|z", "s9", "s8", "s7"),
        hit("d|q|w", "s9", "s8", "s7"),
        hit("unknown", "s1"),
    ),
    {"method": "m"},
)


def test_metrics_overall_and_by_relation(tmp_path: Path) -> None:
    judged = evaluate(HITS, Gold.read(write(tmp_path / "facts.jsonl", FACTS)))
    assert judged.name == "m"
    # a fact without gold passages and a query that is no fact do not count
    assert judged.groups == {"a|p|x": "likes", "b|p|y": "likes", "c|q|z": "owns"}
    overall = judged.estimates()
    assert overall["MRR"].mean == pytest.approx((0.5 + 1 + 0) / 3)
    assert overall["Recall@10"].mean == pytest.approx(2 / 3)
    assert overall["precision@10"].mean == pytest.approx((0.2 + 0.1 + 0) / 3)
    groups = dict(judged.by_group())
    assert groups["likes"]["MRR"].mean == 0.75
    assert groups["owns"]["MRR"].mean == 0.0
    plain = judged.plain()
    assert plain["groups"]["likes"]["MRR"]["queries"] == 2
    assert json.loads(json.dumps(plain)) == plain


def test_differences_take_the_queries_that_both_have(tmp_path: Path) -> None:
    gold = Gold.read(write(tmp_path / "facts.jsonl", FACTS))
    other = Attribution((hit("a|p|x", "s1"), hit("b|p|y", "s9")), {"method": "other"})
    found = evaluate(other, gold).minus(evaluate(HITS, gold))
    assert found["MRR"].queries == 2
    assert found["MRR"].mean == pytest.approx(((1 - 0.5) + (0 - 1)) / 2)


def test_gold_from_annotated_sentences(tmp_path: Path) -> None:
    facts = write(tmp_path / "facts.jsonl", [{**f, "trex_sentences": []} for f in FACTS])
    sentences = write(
        tmp_path / "sentences.jsonl",
        [
            {"sentence_id": "s1", "text": "t", "fact_triples": [["a", "p", "x"], ["c", "q", "z"]]},
            {"sentence_id": "s2", "text": "t", "fact_triples": [["a", "p", "y"]]},
            {"sentence_id": "s3", "text": "states nothing", "fact_triples": []},
            {"sentence_id": "s4", "text": "not annotated"},
        ],
    )
    gold = Gold.read(facts, sentences)
    assert gold.passages == {
        "a|p|x": frozenset({"s1"}),
        "b|p|y": frozenset(),
        "c|q|z": frozenset({"s1"}),
        "d|q|w": frozenset(),
    }
    for wrong, found in (("abc", "a string"), (["abc"], "a string"), ([["a", "p", "x"], None], "null")):
        write(sentences, [{"sentence_id": "s1", "text": "t", "fact_triples": wrong}])
        message = rf"sentences\.jsonl:1: the (field|list) 'fact_triples' must .*, not {found}"
        with pytest.raises(InputError, match=message):
            Gold.read(facts, sentences)
    with pytest.raises(InputError, match="sentences file"):
        Gold.read(facts)


def test_no_query_in_common(tmp_path: Path) -> None:
    gold = Gold.read(write(tmp_path / "facts.jsonl", FACTS))
    with pytest.raises(InputError, match="no query in common"):
        evaluate(Attribution((hit("unknown", "s1"),)), gold, "hits.jsonl")


def test_only_what_is_asked_about_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "facts.jsonl", FACTS)
    asked = asked_by([HITS])
    assert asked == {"a|p|x", "b|p|y", "c|q|z", "d|q|w", "unknown"}
    assert Gold.read(path, asked=asked) == Gold.read(path)
    some = Gold.read(path, asked={"b|p|y"})
    assert set(some.facts) == set(some.passages) == {"b|p|y"}
    # what nobody asks about need not be a whole fact, if the file begins with one
    odd = '{"fact_id": "odd"}\n'
    path.write_text(odd + path.read_text())
    with pytest.raises(InputError, match=r"facts\.jsonl:1: no field 'entity0'"):
        Gold.read(path, asked={"b|p|y"})
    write(path, FACTS)
    path.write_text(path.read_text() + odd)
    assert set(Gold.read(path, asked={"b|p|y"}).facts) == {"b|p|y"}
    with pytest.raises(InputError, match="no query in common"):
        evaluate(HITS, Gold.read(path, asked={"elsewhere"}))


def test_sentences_of_several_shards(tmp_path: Path) -> None:
    facts = write(tmp_path / "facts.jsonl", [{**f, "trex_sentences": []} for f in FACTS])
    shards = tmp_path / "shards"
    shards.mkdir()
    for n, id in enumerate(("a|p|x", "b|p|y", "a|p|x")):
        record = {"sentence_id": n, "text": "t", "fact_triples": [id.split("|")]}
        write(shards / f"sentences.jsonl-{n:05d}-of-00003", [record])
    expected = {"a|p|x": {"0", "2"}, "b|p|y": {"1"}, "c|q|z": set(), "d|q|w": set()}
    files = sorted(shards.iterdir())
    for given in (shards, shards / "sentences.jsonl-*", files, [str(files[0]), shards / "*-0000[12]-of-*"]):
        assert Gold.read(facts, given).passages == expected
    with pytest.raises(InputError, match="given 2 times"):
        Gold.read(facts, [files[0], files[0]])
