"""Hits as Python and the terminal show them."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.attribute.shading import shares
from proponent.attribute.table import print_hit, print_hits
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


def test_tokens_are_shaded_and_the_strongest_named() -> None:
    tokens = (("", 9.0), ("Paris", 2.0), (" is a ci", -1.0), ("ty.", 0.1))
    shaded = ScoredPassage(
        "a", "a", "Paris is a city.", 0.5, tokens=tokens, target_tokens=((" Par", 1), ("is", 3))
    )
    shown = Hit(Query("q", "The capital of France is", "Paris"), (shaded,), ())
    words = repr(shown)
    assert "Paris is a city." in words
    assert "tokens: (prefix) +9, Paris +2, is a ci -1; asked by is +3, Par +1" in " ".join(words.split())
    assert shares(tokens)[1:] == [
        ("Paris", 1.0),
        (" is a ci", -0.5),
        ("ty.", 0.0),
    ]  # the prefix is no measure
    page = Console(record=True, force_terminal=True, color_system="truecolor", file=StringIO(), width=200)
    print_hit(page, shown)
    coloured = page.export_text(styles=True)
    assert re.search(r"48;2;90;225;90mParis", coloured)
    assert re.search(r"48;2;240;158;158m is a ci", coloured)


def test_a_long_shaded_passage_is_cut() -> None:
    tokens = tuple((f"word{n} ", float(n)) for n in range(200))
    text = "".join(part for part, _ in tokens)
    shown = repr(Hit(Query("q", "a", "b"), (ScoredPassage("a", "a", text, 0.5, tokens=tokens),), ()))
    assert " …" in shown
    assert "word150" not in shown
