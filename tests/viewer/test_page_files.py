"""The page on files of all kinds, on narrow screens and in dark colours."""

from __future__ import annotations

import gzip
from pathlib import Path

from playwright.sync_api import Page, expect
from tests.viewer.conftest import Opener
from tests.viewer.rows import capital_rows, lines_of


def count(page: Page) -> str:
    return page.locator("#count").inner_text()


def test_the_papers_files_are_understood(open_page: Opener) -> None:
    row = {
        "example_id": "7",
        "query_set": "incorrect",
        "inputs_plaintext": "Mira Vale was born in",
        "targets_plaintext": "Riga",
        "groundtruth": "Oslo",
        "is_8b_correct": False,
        "8b_generations": ["Riga", "Riga", "Oslo"],
        "8b_confidence": 0.25,
        "proponents": ["Mira Vale sang in Riga.", "Oslo is cold."],
        "proponent_ids": ["a", "b"],
        "proponent_scores": [0.5, 0.25],
        "proponent_ais_scores": [0.2, 0.8],
    }
    page = open_page({"c4.jsonl": [row]})
    detail = page.locator("#detail").inner_text()
    assert page.locator(".verdict q").all_inner_texts() == ["Riga", "Oslo", "Oslo"]
    assert "✗ wrong" in detail
    assert "The truth is" in detail
    assert "rank 2" in detail
    assert "8b confidence\n0.2500" in detail
    assert page.locator(".passage.is-gold").get_attribute("data-id") == "b"
    assert page.locator("mark.subject").first.inner_text() == "Mira Vale"
    assert "no opponents" in detail


def test_answers_of_the_model_are_joined_to_their_queries(open_page: Opener) -> None:
    answers = [
        {"query_id": f"f{n}", "text": " Minsk, of course", "correct": n > 1, "share": 0.15} for n in range(8)
    ]
    rows = capital_rows()
    rows[0]["opponents"][0] = "Minsk is in Belarus."
    page = open_page({"hits.jsonl": rows, "predictions.jsonl": answers})
    assert page.locator(".opponents mark.said").all_inner_texts() == ["Minsk"]
    assert "Minsk, of course" in page.locator(".verdict").inner_text()
    assert "Right in samples\n15%" in page.locator(".facts").inner_text()
    page.get_by_label("The model").select_option("wrong")
    assert count(page) == "2 of 8 queries"


def test_a_passage_with_the_models_own_answer_says_so(open_page: Opener) -> None:
    rows = capital_rows()
    rows[0]["opponents"][0] = "Minsk is in Belarus."
    answer = {"query_id": "f0", "text": " Minsk", "correct": False}
    page = open_page({"hits.jsonl": rows, "predictions.jsonl": [answer]})
    assert page.locator(".opponents .badge").first.inner_text() == "model's answer"


def test_files_are_opened_in_the_page(open_page: Opener, tmp_path: Path) -> None:
    page = open_page({})
    expect(page.locator("#welcome")).to_be_visible()
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(lines_of(capital_rows()).encode()))
    page.set_input_files("#open", packed)
    expect(page.locator("#count")).to_have_text("8 queries")
    plain = tmp_path / "odd.jsonl"
    plain.write_text('\ufeff{"proponents": ["NaN, he said"], "proponent_scores": [NaN]}\n', "utf-8")
    page.set_input_files("#open", plain)
    expect(page.locator("#count")).to_have_text("9 queries")


def test_what_is_wrong_with_a_file_is_said_with_its_line(open_page: Opener, tmp_path: Path) -> None:
    page = open_page(
        {"cut.jsonl": [*capital_rows(), '{"example_id": "f9", "propon'], "good.jsonl": capital_rows()}
    )
    expect(page.get_by_role("alert")).to_have_text("cut.jsonl:9: not JSON; one object a line is expected")
    assert count(page) == "8 queries"
    for text, message in (
        ("[1]\n", "bad.jsonl:1: not a JSON object; one object a line is expected"),
        ('{"a": 1}\n', "bad.jsonl:1: no field 'proponents'; is this a result file?"),
        ('\n{"proponents": ["x"], "proponent_ids": []}', "bad.jsonl:2: 1 proponents with 0 ids"),
        ("", "bad.jsonl: there is nothing in it"),
        ('{"error": "hits.jsonl:12: not JSON"}', "hits.jsonl:12: not JSON"),
    ):
        bad = tmp_path / "bad.jsonl"
        bad.write_text(text, "utf-8")
        page.set_input_files("#open", bad)
        expect(page.get_by_role("alert")).to_contain_text(message)
    bad.write_bytes(b'{"proponents": ["\xff"]}\n')
    page.set_input_files("#open", bad)
    expect(page.get_by_role("alert")).to_contain_text("not UTF-8")


def test_a_narrow_screen_shows_the_list_then_the_query(open_page: Opener) -> None:
    page = open_page({"one.jsonl": capital_rows(), "two.jsonl": capital_rows(False)}, width=390)
    expect(page.locator("#pane")).to_be_hidden()
    page.locator("[role=option]").nth(1).click()
    expect(page.locator("#question")).to_be_focused()
    expect(page.locator("#side")).to_be_hidden()
    wide = "document.documentElement.scrollWidth > innerWidth || document.body.scrollWidth > innerWidth"
    assert not page.evaluate(wide)
    page.get_by_role("button", name="← Queries").click()
    expect(page.locator("#list")).to_be_focused()
    page.click("#view-overview")
    expect(page.locator("#overview")).to_be_visible()
    assert not page.evaluate(wide)


def test_colours_follow_the_system_or_the_reader(open_page: Opener, page: Page) -> None:
    dark = "getComputedStyle(document.body).backgroundColor === 'rgb(20, 23, 28)'"
    page.emulate_media(color_scheme="dark")
    open_page({"hits.jsonl": capital_rows()})
    assert page.evaluate(dark)
    page.click("#theme")
    assert not page.evaluate(dark)
    page.reload()
    page.wait_for_selector("body[data-view]")
    assert not page.evaluate(dark)
    page.click("#theme")
    page.emulate_media(color_scheme="light")
    assert page.evaluate(dark)
