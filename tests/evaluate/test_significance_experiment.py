"""False finds and true ones, counted by hand from hits whose chances are set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.facts import fact_record

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.evaluate.experiments import facts_study
from proponent.evaluate.experiments import significance as module
from proponent.evaluate.experiments.catalogue import experiment
from proponent.evaluate.experiments.given import Given
from proponent.evaluate.experiments.significance import Significance


@pytest.fixture
def asked(made: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The run with its facts and one more that no passage states."""
    facts = tmp_path / "facts.jsonl"
    more = fact_record("absent", ("Quito", "capital", "Ecuador"), ["elsewhere"], "Quito is a capital of")
    facts.write_text(made[1].read_text() + json.dumps(more) + "\n")
    return made[0], facts


def passage(source: str, text: str, chance: float | None) -> ScoredPassage:
    return ScoredPassage(source, source, text, 0.5, chance=chance)


def test_the_shares_are_those_of_the_hits(asked: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    study = Significance(Given(*asked, device="cpu"))
    ids = [query.id for query in study.queries]
    assert study.stated == frozenset(ids) - {"absent"}
    found = {
        # finds its own passage at 0.03, and at 0.1 one that names nothing of it
        "Oslo|capital|Norway": [
            ("capital-Oslo", "The capital Oslo: Norway.", 0.03),
            ("x", "All is well.", 0.1),
        ],
        "absent": [("y", "Quito is old.", 0.004)],
        "Rome|capital|Italy": [("x", "It rains.", 0.02), ("capital-Rome", "The capital Rome: Italy.", 0.3)],
        "Lima|capital|Peru": [("capital-Lima", "The capital Lima: Peru.", None)],
    }

    def methods(_: Significance) -> Iterator[tuple[str, Attribution]]:
        hits = (
            Hit(query, tuple(passage(*values) for values in found.get(query.id, [])), ())
            for query in study.queries
        )
        yield "made up", Attribution(tuple(hits), {})

    monkeypatch.setattr(Significance, "methods", methods)
    monkeypatch.setattr(Significance, "known", ["Oslo|capital|Norway", "Rome|capital|Italy", "absent"])
    table = experiment("significance", *asked, device="cpu")
    shares = [[float(cell.split()[0]) for cell in row[2:]] for row in table.rows]
    assert [row[1] for row in table.rows] == ["0.01", "0.05", "0.2"]
    one = round(100 / 17, 1)
    # of 17 facts with nameless finds, of 1 not stated, of 2 known and stated, of 14 others
    assert shares == [[0.0, 100.0, 0.0, 0.0], [one, 100.0, 50.0, 0.0], [round(200 / 17, 1), 100.0, 50.0, 0.0]]
    assert "the 2 stated facts that the model knows" in table.notes[0]


def test_it_runs_for_real(asked: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WIDER", 6 * 16)
    monkeypatch.setattr(facts_study, "KNOWN", 0.0)
    monkeypatch.setattr("proponent.attribute.significance.FEWEST", 10)
    table = experiment("significance", *asked, device="cpu")
    assert [row[0] for row in table.rows[::3]] == [
        "TrackStar",
        "TrackStar, no task",
        "Kronecker, mix",
        "Kronecker, no task",
    ]
    assert {row[5] for row in table.rows} == {"—"}, "all stated facts count as known"
    by_level = [float(row[4].split()[0]) for row in table.rows[:3]]
    assert by_level == sorted(by_level)
