"""Gold as pairs of ids, and the metrics that benchmarks of data attribution ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.evaluate.evaluation import evaluate
from proponent.evaluate.gold import Gold
from proponent.evaluate.pairs import read_pairs


def hit(id: str, *found: str, **fields: Any) -> Hit:
    passages = tuple(ScoredPassage(name, name.split("#")[0], f"text of {name}", 1.0) for name in found)
    return Hit(Query(id, "prompt", "target", fields), passages, ())


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gold.tsv", "query_id\tpassage_id\tlabel\nq\ta\t2\nq\tb\t0\nq\tc\t1\nr\td\t0\n"),
        ("gold.csv", "passage_id,query_id,relevance\na,q,true\nb,q,no\nc,q,0.5\nd,r,False\n"),
        ("qrels.tsv", "query-id\tcorpus-id\tscore\nq\ta\t1\nq\ta\t1\nq\tc\t1\nr\td\t-1\n"),
        (
            "gold.jsonl",
            '{"fact_id": "q", "sentence_id": "a"}\n{"fact_id": "q", "sentence_id": "c", "label": true}\n'
            '{"fact_id": "r", "sentence_id": "d", "label": 0}\n',
        ),
    ],
)
def test_pairs_are_read_by_their_columns(tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path / name, text)
    assert read_pairs(path) == {"q": frozenset({"a", "c"}), "r": frozenset()}
    gold = Gold.read(path)
    assert (gold.facts, gold.passages) == ({}, read_pairs(path))
    assert Gold.read(path, asked={"r"}).passages == {"r": frozenset()}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("query_id\ttext\nq\tx\n", "no id of a passage (passage_id or sentence_id or"),
        ("passage_id\nq\n", "no id of a query (query_id or example_id or"),
        ("query_id\tpassage_id\tlabel\nq\ta\tgood\n", "the 'label' of a pair is 'good'; give a number"),
        ("query_id\tpassage_id\tlabel\nq\ta\tnan\n", "the 'label' of a pair is 'nan'"),
        ("query_id\tpassage_id\nq\t\n", "the id in 'passage_id' is empty"),
    ],
)
def test_what_is_no_pair_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path / "gold.tsv", text)
    with pytest.raises(InputError) as caught:
        read_pairs(path)
    assert str(caught.value).startswith(f"{path}:2: {words}")
    write(tmp_path / "gold.tsv", "query_id\tpassage_id\nq\ta\n")
    with pytest.raises(InputError, match="pairs name their passages; leave out the sentences"):
        Gold.read(path, path)


def test_a_chunk_counts_as_its_passage_once() -> None:
    gold = Gold({}, {"q": frozenset({"a", "b"})})
    row = hit("q", "a#0", "x", "a#1", "b")
    assert gold.correct(row) == [True, False, True, True]
    assert gold.found(row) == [True, False, True]
    judged = evaluate(Attribution((row,)), gold, "hits")
    assert judged.estimates()["AUPRC"].mean == pytest.approx((1 + 2 / 3) / 2)


def test_recall_at_50_needs_lists_that_long() -> None:
    gold = Gold({}, {"q": frozenset({"p3", "p49", "p50", "elsewhere"})})
    deep = Attribution((hit("q", *(f"p{n}" for n in range(60))),))
    judged = evaluate(deep, gold, "deep")
    assert judged.estimates()["Recall@50"].mean == 0.5
    assert judged.estimates()["AUPRC"].mean == pytest.approx((1 / 4 + 2 / 50 + 3 / 51) / 4)
    assert judged.notes == (
        "AUPRC is a lower bound: 1 of 4 gold passages are not in the lists",
        "Recall@50 is the share of a query's gold passages, Recall@10 of queries with any",
    )
    short = Attribution((hit("q", *(f"p{n}" for n in range(49))),))
    judged = evaluate(short, gold, "short")
    assert "Recall@50" not in judged.estimates()
    assert "Recall@50 is left out: the shortest list has 49 passages; retrieve 50 (-k 50)" in judged.notes
    assert set(evaluate(deep, gold, "deep").minus(judged)) == set(judged.values)
    assert str(judged).endswith("\n".join(judged.notes))
    assert judged.plain()["notes"] == list(judged.notes)


def test_a_whole_ranking_has_no_lower_bound() -> None:
    gold = Gold({}, {"q": frozenset({"p1"})})
    assert not any(
        "lower bound" in note for note in evaluate(Attribution((hit("q", "p0", "p1"),)), gold).notes
    )


def test_a_papers_query_is_found_by_its_fact_id(tmp_path: Path) -> None:
    gold = Gold.read(write(tmp_path / "gold.jsonl", json.dumps({"query_id": "f7", "passage_id": "a"})))
    row = hit("trex_7", "x", "a", fact_id="f7")
    assert evaluate(Attribution((row,)), gold).estimates()["MRR"].mean == 0.5
