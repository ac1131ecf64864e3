"""What a notebook is shown: whole HTML, every text in it escaped."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.attribute.certificate import Certificate
from proponent.attribute.notebook import LONG
from proponent.corpus.example import Query

NASTY = "<script>alert('x')</script> & <img src=x onerror=alert(1)> \u202eback"
VOID = {"br"}


class Reader(HTMLParser):
    """Collects elements and texts, and holds that every element is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.marks: list[tuple[str, str]] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "href")]
        if tag not in VOID:
            self._open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1][0], data))
        if any(open_ == "mark" for open_, _ in self._open):
            style = next(a["style"] for open_, a in self._open if open_ == "mark")
            self.marks.append((str(style)[11:18], data))

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.texts)


def hit(passages: dict[str, str], prompt: str = "The capital of France is", target: str = "Paris") -> Hit:
    scored = tuple(ScoredPassage(id, id, text, 0.5 - n) for n, (id, text) in enumerate(passages.items()))
    return Hit(Query("q", prompt, target, {"trex_sentences": ["a"]}), scored, scored[::-1])


def test_queries_and_passages_are_shown_beside_each_other() -> None:
    hits = Attribution(
        (hit({"a": "Paris is a capital.", "b": "Cats."}),), {"method": "trackstar", "mix": 0.25}
    )
    shown = Reader(hits._repr_html_())
    assert shown.elements.count("table") == 1
    assert [text for tag, text in shown.texts if tag == "th"] == ["proponents", "opponents"]
    assert [text for tag, text in shown.texts if tag == "code"] == ["a", "b", "b", "a"]
    assert "+0.5000" in shown.text
    assert "-0.5000" in shown.text
    assert shown.text.count("✓ gold") == 2
    assert shown.text.endswith("trackstar, task mix λ = 0.2500")
    plain = Attribution(hits.hits, {"method": "trackstar", "mix": None, "run": "runs/one"})
    assert Reader(plain._repr_html_()).text.endswith("trackstar, no task mix")


def test_words_are_marked_by_what_they_are() -> None:
    shown = Reader(hit({"a": "PARIS, capital of Francedom; parisian capitals of france, is"})._repr_html_())
    target, prompt = "#ffe3bf", "#d6e8fa"
    assert shown.marks[0] == (target, "Paris"), "of the question"
    assert shown.marks[1:4] == [(target, "PARIS"), (prompt, "capital"), (prompt, "france")]


@pytest.mark.parametrize("place", ["id", "text", "prompt", "target"])
def test_nasty_text_stays_text(place: str) -> None:
    given = {"id": "a", "text": "b", "prompt": "c", "target": "d", place: NASTY}
    made = hit({given["id"]: given["text"]}, given["prompt"], given["target"])
    html = Attribution((made,), {"method": "dot"})._repr_html_()
    shown = Reader(html)
    assert " ".join(NASTY.split()) in shown.text
    assert not {"script", "img"} & set(shown.elements)


def test_a_nasty_method_stays_text() -> None:
    """Result files are read from anywhere, and their settings with them."""
    shown = Reader(Attribution((hit({"a": "b"}),), {"method": NASTY})._repr_html_())
    assert "script" not in shown.elements


def test_long_passages_are_folded_and_many_queries_left_out() -> None:
    text = "Paris " + "word " * LONG
    hits = Attribution(tuple(hit({"a": text, "b": "short"}) for _ in range(7)))
    shown = Reader(hits._repr_html_())
    assert shown.elements.count("details") == 2 * 5
    assert "and 2 more queries" in shown.text
    assert shown.elements.count("table") == 5


def test_what_is_missing_leaves_its_place_empty() -> None:
    one = ScoredPassage("a", "a", "text", 0.0)
    shown = Reader(Hit(Query("q", "p", "t"), (one, one), (one,))._repr_html_())
    assert shown.elements.count("td") == 8
    alone = Reader(Hit(Query("q", "p", "t"), (one,), ())._repr_html_())
    assert [text for tag, text in alone.texts if tag == "th"] == ["proponents"]
    assert Reader(Attribution(())._repr_html_()).elements == ["div"]


def test_tokens_are_shaded_and_stay_text() -> None:
    tokens = (("<b>Paris", 2.0), (" no", -1.0))
    passage = ScoredPassage("a", "a", "<b>Paris no", 0.5, tokens=tokens, target_tokens=(("Paris", 1.0),))
    page = Hit(Query("q", "The capital of France is", "Paris"), (passage,), ())._repr_html_()
    assert 'rgba(0,128,0,0.50)" title="+1.00 of the strongest">&lt;b&gt;Paris</span>' in page
    assert 'rgba(200,0,0,0.25)" title="-0.50 of the strongest"> no</span>' in page
    assert "tokens: &lt;b&gt;Paris +2, no -1" in page


def test_a_certificate_is_a_sentence_below_the_table() -> None:
    certificate = Certificate(1.0, 12_000, 345, 1, 0, -0.25, None)
    hit = Hit(Query("q", "a", "b"), (ScoredPassage("p", "p", "text", 0.5),), (), certificate)
    texts = Reader(Attribution((hit,))._repr_html_()).texts
    assert ("p", certificate.sentence(1, 0)) in texts
