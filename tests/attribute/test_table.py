"""Hits as Python and the terminal show them."""

from __future__ import annotations

import re

import pytest

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.attribute.table import print_hits
from proponent.corpus.example import Query

NASTY = "\x1b[31mred\x1b]0;title\x07 \x9b2J \x00 \u202eback\ud83d"
SHOWN = """\
The capital of France is → Paris
              score  gold  id  passage
proponents  +0.5000   ✓    a   Paris is the capital of France. Paris is the
                               capital of France.
            -0.5000        b   Cats sleep.
opponents   -0.5000        b   Cats sleep.

trackstar, task mix λ = 0.2500"""


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def hit(*texts: str, prompt: str = "The capital of France is", id: str = "q") -> Hit:
    passages = tuple(ScoredPassage("ab"[n % 2], "ab"[n % 2], text, 0.5 - n) for n, text in enumerate(texts))
    return Hit(Query(id, prompt, "Paris", {"trex_sentences": ["a"]}), passages, passages[1:2])


def test_a_trace_prints_as_a_table() -> None:
    hits = Attribution(
        (hit("Paris is the capital of France.\n" * 2, "Cats sleep."),), {"method": "trackstar", "mix": 0.25}
    )
    assert repr(hits) == str(hits) == f"{hits}" == SHOWN
    assert repr(hits[0]) == SHOWN.rpartition("\n\n")[0]


def test_many_queries_and_passages_are_left_out() -> None:
    hits = Attribution(tuple(hit(*["text " * 99] * 7, id=str(n)) for n in range(5)), {"method": "bm25"})
    lines = repr(hits).splitlines()
    assert sum("→" in line for line in lines) == 3
    assert sum(bool(re.search(r"[+-]\d\.\d{4}", line)) for line in lines) == 3 * (5 + 1)
    assert lines[-2:] == ["and 2 more queries", "bm25"]
    assert len(lines) < 120
    assert max(map(len, lines)) <= 80
    assert "and 1 more query" in repr(Attribution(hits.hits[:4]))
    assert repr(Attribution(())) == "no queries"


def test_nothing_in_a_text_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    made = hit(NASTY, "fine", prompt=f"The {NASTY}")
    named = ScoredPassage(NASTY, NASTY, "text", 0.0)
    hits = Attribution((made, Hit(made.query, (named,), ())), {"method": NASTY})
    print_hits(hits, 3)
    for shown in (repr(hits), capsys.readouterr().out):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", shown)
        assert "[31mred" in shown
