"""The open set on a run of a tiny model: verdicts on disk, tables, judged hits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.evaluate.test_entailment import ROBERTA, classifier

from proponent.attribute import baselines
from proponent.attribute.attribution import Attribution
from proponent.attribute.baselines import bm25
from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.evaluate.entailment import Pair, Rule
from proponent.evaluate.experiments.catalogue import experiment
from proponent.evaluate.experiments.report import report
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.experiments.verdicts import TOGETHER, Verdicts
from proponent.progress import Silent


@pytest.fixture
def own(made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A run that no other test has made experiments in, and no sentence model."""
    monkeypatch.setattr(baselines, "embedding", lambda corpus, queries, k, _: bm25(corpus, queries, k))
    copy = shutil.copytree(made[0], tmp_path / "run", ignore=shutil.ignore_patterns("experiments"))
    return Path(copy), made[1]


def asked(own: tuple[Path, Path], nli: str | None = None) -> Table:
    return experiment("open-set", own[0], own[1], nli=nli, patch_queries=4, device="cpu")


def test_with_the_rule(own: tuple[Path, Path]) -> None:
    table, folder = asked(own), own[0] / "experiments" / "open-set"
    assert [row[0] for row in table.rows] == [
        *("random", "BM25", "embedding", "gradient dot", "gradient cosine", "TrackStar")
    ]
    assert table.title == "Open set, gold by the rule"
    assert "by a rule: " in table.notes[0]
    # every pair of names is in sentences on four relations, which the rule cannot tell apart
    assert "precision 0.25, recall 1.00" in table.notes[2]
    assert {path.name for path in folder.iterdir()} >= {"table.md", "table.csv", "figure.png", "figure.svg"}
    record = json.loads((folder / "judged" / "BM25.jsonl").read_text().splitlines()[0])
    assert record["gold"] == "rule"
    scores, windows = record["proponent_ais_scores"], record["proponent_ais_best_windows"]
    assert record["proponent_correct"] == [score > 0.5 for score in scores]
    assert all(w in text for w, text in zip(windows, record["proponents"], strict=True))
    assert sum(scores) >= 1
    again = Attribution.read(folder / "judged" / "BM25.jsonl")[0]
    assert again.correct() == record["proponent_correct"]
    assert "<h2>open-set</h2>" in report(own[0]).read_text()


def test_with_a_model(own: tuple[Path, Path], tmp_path: Path) -> None:
    table = asked(own, classifier(tmp_path / "nli", ROBERTA))
    assert str(tmp_path / "nli") in table.title
    assert "a rule" not in table.notes[0]


@pytest.mark.slow
def test_killed_and_asked_again_it_ends_with_the_same_bytes(
    own: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nli = classifier(tmp_path / "nli", ROBERTA)
    asked(own, nli)
    (verdicts,) = (own[0] / "experiments" / "open-set").glob("verdicts-*.jsonl")
    whole = verdicts.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) > TOGETHER
    for kept in (0, 1, TOGETHER - 1, len(lines) - 1):
        verdicts.write_bytes(b"".join(lines[:kept]) + lines[kept][:9])
        asked(own, nli)
        assert verdicts.read_bytes() == whole

    def refused(*_: object) -> None:
        raise AssertionError("judged again")

    monkeypatch.setattr("proponent.evaluate.entailment.NliModel.scores", refused)
    asked(own, nli)


class Counting:
    """Gives each window the share of its letters that are an "a"."""

    name = identity = "counting"

    def windows(self, pair: Pair) -> list[str]:
        return pair.premise.split()

    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        return [pair.premise.count("a") / len(pair.premise) for pair in pairs]


def test_the_best_window_counts(tmp_path: Path) -> None:
    query = Query("q", "a", "b")
    pairs = [Pair(text, query) for text in ("xx aax ab", "none", "xx aax ab")]
    found = Verdicts(Counting(), tmp_path / "v.jsonl").of(pairs, Silent())
    best = [(round(score, 2), window) for score, window in found]
    assert best == [(0.67, "aax"), (0, "none"), (0.67, "aax")]
    assert [verdict.gold for verdict in found] == [True, False, True]
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 2


def test_verdicts_of_something_else_are_refused(tmp_path: Path) -> None:
    pairs = [Pair("aa", Query("q", "a", "b", {"entity0": "a"}))]
    Verdicts(Counting(), tmp_path / "v.jsonl").of(pairs, Silent())
    with pytest.raises(InputError, match=r"v\.jsonl:1: verdicts of another judge"):
        Verdicts(Rule(), tmp_path / "v.jsonl").of(pairs, Silent())
    (tmp_path / "v.jsonl").write_text('{"passage": "x"}\n')
    with pytest.raises(InputError, match=r"v\.jsonl:1: not verdicts on passages"):
        Verdicts(Counting(), tmp_path / "v.jsonl").of(pairs, Silent())
