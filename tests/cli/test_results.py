"""Verbs that judge results: the whole way from a run to metrics, tail-patch and tables, and bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.running import PASSAGES, Command, Made, write_lines
from tests.facts import fact_record

FACTS = [
    fact_record("paris", ("France", "capital", "Paris"), ["paris"], "France's capital is"),
    fact_record("gold", ("gold", "symbol", "Au"), ["gold"], "The symbol of gold is"),
]


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "facts.jsonl", *FACTS)


@pytest.fixture
def hits(proponent: Command, made: Made, facts: Path, tmp_path: Path) -> Path:
    """What BM25 retrieves: a result file that says of no run that it is from."""
    answer = proponent("baseline", "bm25", made.corpus, facts, "-k", "3", "-o", tmp_path / "bm25.jsonl")
    assert (answer.code, answer.out) == (0, "")
    assert "2 queries, written to" in answer.err
    return tmp_path / "bm25.jsonl"


@pytest.fixture
def traced(proponent: Command, made: Made, facts: Path, tmp_path: Path) -> Path:
    answer = proponent("trace", made.run, facts, "-k", "4", "-o", tmp_path / "traced.jsonl")
    assert answer.code == 0
    return tmp_path / "traced.jsonl"


def test_evaluate_compares_files_with_the_first(
    proponent: Command, hits: Path, traced: Path, facts: Path
) -> None:
    answer = proponent("evaluate", hits, traced, "--gold", facts, "--json")
    first, second = json.loads(answer.out)
    assert first["name"] == str(hits)
    assert first["overall"]["MRR"]["mean"] == 1.0
    assert first["overall"]["Recall@10"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "queries": 2}
    assert set(first["groups"]) == {"capital", "symbol"}
    ranks = [
        1 + record["proponent_correct"].index(True) if True in record["proponent_correct"] else float("inf")
        for record in map(json.loads, traced.read_text().splitlines())
    ]
    expected = sum(1 / rank for rank in ranks) / 2
    assert second["overall"]["MRR"]["mean"] == pytest.approx(expected)
    answer = proponent("evaluate", hits, traced, "--gold", facts)
    (_, difference) = answer.out.split(f"{traced} minus {hits}\n")
    paired = difference.splitlines()[1].split()
    assert paired[:3] == ["paired", "2", f"{expected - 1:.3f}".replace("0.", ".")]


def test_evaluate_splits_by_whether_the_model_is_right(
    proponent: Command, made: Made, hits: Path, facts: Path
) -> None:
    answer = proponent("evaluate", hits, "--gold", facts, "--split", "correct", "--run", made.run, "--json")
    (judged,) = json.loads(answer.out)
    assert set(judged["groups"]) == {"wrong"}, "an untrained model knows nothing"
    assert judged["groups"]["wrong"]["MRR"]["queries"] == 2


def test_evaluate_by_pairs_and_by_a_field(proponent: Command, hits: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "gold.tsv"
    pairs.write_text("query_id\tpassage_id\tlabel\nparis\tparis\t1\ngold\tnowhere\t1\ngold\tgold\t0\n")
    records = [json.loads(line) for line in hits.read_text().splitlines()]
    bucketed = write_lines(
        tmp_path / "b.jsonl", *({**r, "frequency_bucket": n} for n, r in enumerate(records))
    )
    answer = proponent("evaluate", bucketed, "--gold", pairs, "--split", "c4_frequency_bucket", "--json")
    (judged,) = json.loads(answer.out)
    assert judged["overall"]["AUPRC"]["mean"] == 0.5
    assert {name: found["MRR"]["mean"] for name, found in judged["groups"].items()} == {"0": 1.0, "1": 0.0}
    table = proponent("evaluate", bucketed, "--gold", pairs).out
    assert "AUPRC is a lower bound: 1 of 2 gold passages are not in the lists" in table
    assert "Recall@50 is left out: the shortest list has" in table
    assert max(map(len, table.splitlines()[1:])) <= 80
    proponent("evaluate", hits, "--gold", pairs, "--sentences", pairs).assert_refused(
        "leave out the sentences"
    )


def test_evaluate_takes_several_files_of_sentences(
    proponent: Command, hits: Path, facts: Path, tmp_path: Path
) -> None:
    bare = [{**json.loads(line), "trex_sentences": []} for line in facts.read_text().splitlines()]
    given: list[str | Path] = []
    for n, fact in enumerate(bare):
        triple = [fact[name] for name in ("entity0_uri", "predicate_uri", "entity1_uri")]
        shard = tmp_path / f"sentences.jsonl-0000{n}-of-00002"
        shard.write_text(json.dumps({"sentence_id": fact["fact_id"], "fact_triples": [triple]}) + "\n")
        given += ["--sentences", shard]
    lists = write_lines(tmp_path / "bare.jsonl", *bare)
    answer = proponent("evaluate", hits, "--gold", lists, *given, "--json")
    assert json.loads(answer.out)[0]["overall"]["MRR"]["queries"] == 2


def test_random_passages_are_a_baseline_too(
    proponent: Command, made: Made, facts: Path, tmp_path: Path
) -> None:
    output = tmp_path / "random.jsonl"
    assert proponent("baseline", "random", made.corpus, facts, "-k", "4", "-o", output).code == 0
    for line in output.read_text().splitlines():
        assert sorted(json.loads(line)["proponent_ids"]) == sorted(set(PASSAGES) - {"blank"})


def test_tail_patch_beside_random_passages(
    proponent: Command, traced: Path, facts: Path, tmp_path: Path
) -> None:
    effects = tmp_path / "effects.jsonl"
    answer = proponent("tail-patch", traced, "--output", effects, "--json")
    found = json.loads(answer.out)
    assert (found["queries"], found["learning_rate"], found["relative"]) == (2, 0.001, True)
    assert list(found["hits"]) == list(found["random"]) == ["top 1", "top 3"]
    measured = [json.loads(line) for line in effects.read_text().splitlines()]
    assert {record["query"] for record in measured} == {"paris", "gold"}
    firsts = [json.loads(line)["proponent_ids"][0] for line in traced.read_text().splitlines()]
    points = [
        record["points"]
        for query, passage in zip(("paris", "gold"), firsts, strict=True)
        for record in measured
        if (record["query"], record["passage"]) == (query, passage)
    ]
    assert found["hits"]["top 1"]["mean"] == pytest.approx(sum(points) / 2)

    table = proponent("tail-patch", traced).out.splitlines()
    assert table[0].startswith("change of the target's probability in percentage points, 2 queries")
    assert table[1].split() == ["hits", "random"]
    assert [line.split()[:2] for line in table[2:]] == [["top", "1"], ["top", "3"]]
    assert max(map(len, table[1:])) <= 80


def test_an_experiment_and_its_report(proponent: Command, made: Made, facts: Path) -> None:
    answer = proponent("experiment", "lambda", made.run, "--facts", facts, "--device", "cpu")
    assert answer.code == 0
    assert "| automatic (" in answer.out
    folder = made.run / "experiments" / "lambda"
    with (folder / "table.csv").open(newline="") as file:
        assert next(csv.reader(file))[0] == "λ"
    answer = proponent("report", made.run)
    page = Path(answer.out.strip())
    assert page.is_file()
    assert "<h2>lambda</h2>" in page.read_text()


def test_an_experiment_on_tasks_takes_files_of_queries(
    proponent: Command, made: Made, facts: Path, tmp_path: Path
) -> None:
    sums = write_lines(tmp_path / "sums.jsonl", {"prompt": "One and one is", "target": "two"})
    answer = proponent("experiment", "tasks", made.run, sums, facts, "--device", "cpu")
    assert answer.code == 0
    rows = [line.split(" | ")[0] for line in answer.out.splitlines() if line.startswith("| ")]
    assert rows[2:] == ["| sums"] * 4 + ["| facts"] * 4
    assert (made.run / "experiments" / "tasks" / "examples.md").is_file()
    refused = proponent("experiment", "tasks", made.run, sums, tmp_path / "none.jsonl")
    refused.assert_refused("none.jsonl: no such file of queries")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fact_id": "f7", "trex_sentences": ["x"]}, ["bm25.jsonl: no query in common with the gold facts"]),
        ({"entity1": ""}, ["facts.jsonl:1: the field 'entity1' is empty; a fact needs it"]),
        ({"entity0": " "}, ["facts.jsonl:1: the field 'entity0' is empty"]),
        ({"prompt0": ""}, ["facts.jsonl:1: the field 'prompt0' is empty"]),
        ({"prompt0": None}, ["facts.jsonl:1: the field 'prompt0'"]),
        ({"trex_sentences": []}, ["facts.jsonl: no fact lists a passage that states it"]),
        ({"trex_sentences": "paris"}, ["the field 'trex_sentences' must be a list of strings"]),
    ],
)
def test_bad_gold(
    change: dict[str, Any], words: list[str], proponent: Command, hits: Path, tmp_path: Path
) -> None:
    other = write_lines(tmp_path / "facts.jsonl", {**FACTS[0], **change})
    proponent("evaluate", hits, "--gold", other).assert_refused(*words)


def test_duplicate_facts(proponent: Command, hits: Path, tmp_path: Path) -> None:
    twice = write_lines(tmp_path / "facts.jsonl", FACTS[0], FACTS[0])
    proponent("evaluate", hits, "--gold", twice).assert_refused(
        "facts.jsonl:2: the id 'paris' was already given at", "facts.jsonl:1"
    )


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ({"sentence_id": "s", "fact_triples": "x"}, ["s.jsonl:1: the field 'fact_triples' must be a list"]),
        ({"fact_triples": [["France", "capital", "Paris"]]}, ["s.jsonl:1: no field 'sentence_id'"]),
    ],
)
def test_bad_sentences(
    sentence: dict[str, Any], words: list[str], proponent: Command, hits: Path, facts: Path, tmp_path: Path
) -> None:
    sentences = write_lines(tmp_path / "s.jsonl", sentence)
    proponent("evaluate", hits, "--gold", facts, "--sentences", sentences).assert_refused(*words)


def test_results_of_another_run(
    proponent: Command, made: Made, hits: Path, facts: Path, tmp_path: Path
) -> None:
    proponent("tail-patch", hits).assert_refused("bm25.jsonl: says of no run", "--run")
    records = [json.loads(line) for line in hits.read_text().splitlines()]
    records[1]["proponent_ids"][2] = records[1]["proponent_sources"][2] = "stranger"
    strange = write_lines(tmp_path / "strange.jsonl", *records)
    proponent("tail-patch", strange, "--run", made.run).assert_refused(
        "strange.jsonl: passage 'stranger', a proponent of query 'gold', is not in", str(made.run)
    )
    proponent("experiment", "lambda", tmp_path, "--facts", facts).assert_refused("not a run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bm25", "-k", "5"], ["k is 5; the corpus holds 4 passages, give 1 to that many"]),
        (["random", "-k", "0"], ["-k is 0; give 1 or more"]),
        (["tf-idf", "-k", "1"], ["no baseline 'tf-idf'; choose one of bm25, embedding, random"]),
        (["embedding", "-k", "1", "--model", "EMPTY"], ["embedding model", "empty' cannot be loaded: "]),
    ],
)
def test_bad_baselines(
    arguments: list[str], words: list[str], proponent: Command, made: Made, facts: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    kind, *options = [str(tmp_path / "empty") if word == "EMPTY" else word for word in arguments]
    answer = proponent("baseline", kind, made.corpus, facts, *options, "-o", tmp_path / "hits.jsonl")
    answer.assert_refused(*words)
    assert not (tmp_path / "hits.jsonl").exists()


def test_bad_choices(proponent: Command, made: Made, hits: Path, facts: Path) -> None:
    proponent("evaluate", hits, "--gold", facts, "--split", "size").assert_refused(
        "--split size: no query has this field; there are: entity0, relation"
    )
    proponent("experiment", "table9", made.run, "--facts", facts).assert_refused("no experiment 'table9'")
    for limit in ("0", "-1"):
        proponent("tail-patch", hits, "--run", made.run, "--limit", limit).assert_refused(
            f"--limit is {limit}; give 1 or more"
        )
