"""The verbs from Python, as they are on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.processes import python
from tests.cli.running import Command, Made, write_lines
from tests.facts import fact_record

import proponent as pp

FACTS = [
    fact_record("paris", ("France", "capital", "Paris"), ["paris"], "France's capital is"),
    fact_record("gold", ("gold", "symbol", "Au"), ["gold"], "The symbol of gold is"),
]


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "facts.jsonl", *FACTS)


def test_each_gives_what_the_command_prints(
    made: Made, facts: Path, proponent: Command, tmp_path: Path
) -> None:
    queries = pp.Queries.read(facts)
    hits = pp.trace(made.run, queries, k=3)
    hits.write(tmp_path / "hits.jsonl")
    judged = pp.evaluate(hits, pp.Gold.read(facts), str(tmp_path / "hits.jsonl"))
    assert proponent("evaluate", tmp_path / "hits.jsonl", "--gold", facts).out == f"{judged}\n"
    patched = pp.tail_patch(hits, limit=1)
    answer = proponent("tail-patch", tmp_path / "hits.jsonl", "--limit", "1", "--json")
    assert json.loads(answer.out) == patched.plain()
    assert pp.tail_patch(hits, pp.Index(made.run), limit=1) == patched
    assert "percentage points, 1 queries" in str(patched)
    assert proponent("info", made.run).out == f"{pp.info(made.run)}\n"
    assert proponent("check", made.run).out == f"{pp.check(made.run)}\n"


@pytest.mark.parametrize("kind", ["bm25", "random"])
def test_baselines(kind: str, made: Made, facts: Path, proponent: Command, tmp_path: Path) -> None:
    corpus, queries = pp.Corpus.read(made.corpus), pp.Queries.read(facts)
    pp.baseline(kind, corpus, queries, 2, seed=3).write(tmp_path / "ours.jsonl")
    theirs = tmp_path / "theirs.jsonl"
    words = ("baseline", kind, made.corpus, facts, "-k", "2", "--seed", "3", "-o", theirs)
    assert proponent(*words).code == 0
    assert theirs.read_bytes() == (tmp_path / "ours.jsonl").read_bytes()
    with pytest.raises(pp.InputError, match="no baseline 'tf-idf'; choose one of bm25, embedding, random"):
        pp.baseline("tf-idf", corpus, queries)


def test_evaluate_is_a_function_whatever_was_imported_before() -> None:
    code = "import proponent as pp; pp.Gold; print(callable(pp.evaluate), callable(pp.evaluate))"
    assert python("-c", code).stdout.split() == ["True", "True"]


def test_proponents_that_are_not_of_the_run_are_refused_before_the_model_is_loaded(
    made: Made, facts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("proponent.attribute.tracing.load_model", begun)
    strangers = pp.baseline("random", pp.Corpus.of(["one", "two"]), pp.Queries.read(facts), 1)
    with pytest.raises(pp.InputError, match=r"is not in .*; name the run of these passages"):
        pp.tail_patch(strangers, made.run)
    with pytest.raises(pp.InputError, match="says of no run"):
        pp.tail_patch(strangers)
    with pytest.raises(pp.InputError, match="the learning rate is 0; it must be more than 0"):
        pp.tail_patch(strangers, made.run, learning_rate=0)
    with pytest.raises(pp.InputError, match="a limit of 0 queries"):
        pp.tail_patch(strangers, made.run, limit=0)
