"""What the page shows of the fields in the paper's files: the model's answers, entailment, raw records."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.viewer.conftest import Opener
from tests.viewer.rows import capital_rows

from proponent.corpus.names import OLDER_NAMES

WINDOW = "In the end Oslo became the capital of Norway."
FILLER = "It rained again that day and little else was written down. " * 9
OLD = {
    "trex_id": "trex_7",
    "inputs_plaintext": "The capital of Norway is",
    "targets_plaintext": "Bergen",
    "ground_truth": "Oslo",
    "is_8b_correct": False,
    "task": "trex",
    "has_trex_sentence": True,
    "temperature_samples": ["Bergen", "Oslo", "Bergen"],
    "model_confidence": 0.25,
    "fact_frequency": 1234,
    "frequency_bucket": 4,
    "proponents": [f"{FILLER}{WINDOW.replace(' became', '  became')} {FILLER}", "Bergen is wet."],
    "proponent_ids": ["a", "b"],
    "proponent_scores": [0.5, 0.25],
    "proponent_ais_scores": [0.93, 0.125],
    "proponent_ais_best_windows": [WINDOW, None],
    "proponent_ranks": [3, 2],
}


@pytest.fixture
def old(open_page: Opener) -> Page:
    return open_page({"old.jsonl": [OLD]})


def test_older_names_are_read_as_the_newer(old: Page) -> None:
    facts = old.locator("#detail .facts").inner_text()
    for shown in ("Id\ntrex_7", "8b confidence\n0.2500", "c4 frequency\n1,234", "c4 frequency bucket\n4"):
        assert shown in facts
    assert "task\ntrex" in facts
    assert "has trex sentence\nyes" in facts
    verdict = old.locator(".verdict").inner_text()
    assert "✗ wrong" in verdict
    assert "The truth is" in verdict
    old.locator(".samples summary").click()
    assert old.locator(".samples li").all_inner_texts() == ["Bergen 2 of 3", "Oslo 1 of 3"]
    old.fill("#where", "c4_frequency_bucket = 4 and 8b_generations = oslo and fact_id = trex_7")
    expect(old.locator("#count")).to_have_text("1 query")


def test_the_page_and_the_library_have_one_table_of_older_names(old: Page) -> None:
    table = old.evaluate("async () => ({ ...(await import('/names.js')).OLDER_NAMES })")
    assert table == OLDER_NAMES


def test_a_newer_name_wins_over_an_older(open_page: Opener) -> None:
    page = open_page({"both.jsonl": [{**OLD, "8b_confidence": 0.75}]})
    assert "8b confidence\n0.7500" in page.locator("#detail .facts").inner_text()


def test_entailment_is_shown_with_its_best_window(old: Page) -> None:
    first, second = old.locator(".passage").all()
    assert "AIS 0.93" in first.inner_text()
    assert "was #3" in first.inner_text()
    assert "✓ gold" in first.inner_text()
    assert "AIS 0.13" in second.inner_text()
    assert "was" not in second.locator(".passage-head").inner_text()  # it is where it was
    # the fold begins where the window is; white space need not be the same
    assert "Oslo" in first.locator(".text").inner_text()
    marked = "".join(first.locator(".window").all_inner_texts())
    assert " ".join(marked.split()) == WINDOW
    assert first.locator(".window.first").count() == first.locator(".window.last").count() == 1
    ends = [first.locator(f".window.{end}") for end in ("first", "last")]
    signs = [
        end.evaluate("(e, at) => getComputedStyle(e, at).content", at)
        for end, at in zip(ends, ("::before", "::after"), strict=True)
    ]
    assert ["⟦" in signs[0], "⟧" in signs[1]] == [True, True]  # told without colour
    assert second.locator(".window").count() == 0


def test_queries_are_sorted_by_their_best_entailment(open_page: Opener) -> None:
    rows = capital_rows()
    for n, row in enumerate(rows):
        row["proponent_ais_scores"] = [0.0, (n * 3 % 8) / 8]
    page = open_page({"hits.jsonl": rows})
    page.get_by_label("Sort by").select_option(label="Best AIS score")
    assert page.locator("[role=option] .prompt-line").first.inner_text() == "The capital of Austria is"


def test_fields_with_few_values_are_filters(open_page: Opener) -> None:
    rows: list[dict[str, Any]] = []
    for n, row in enumerate(capital_rows()):
        more = {"c4_frequency": n * 100, "task": "copa" if n else "trex", "has_trex_sentence": n != 3}
        rows.append({**row, **more, "c4_frequency_bucket": n % 3, "note": f"note {n}" * 9})
    page = open_page({"hits.jsonl": [*rows, *({**row, "fact_id": f"x{n}"} for n, row in enumerate(rows))]})
    page.locator("#filter-is-c4_frequency_bucket").select_option("2 (4)")
    expect(page.locator("#count")).to_have_text("4 of 16 queries")
    page.locator("#filter-is-task").select_option("copa (14)")
    expect(page.locator("#count")).to_have_text("4 of 16 queries")
    page.locator("#filter-is-c4_frequency_bucket").select_option("Any")
    page.locator("#filter-is-has_trex_sentence").select_option("false (2)")
    expect(page.locator("#count")).to_have_text("2 of 16 queries")
    page.get_by_role("button", name="Clear search and filters").click()
    expect(page.locator("#count")).to_have_text("16 queries")
    assert page.locator("#filter-is-task").input_value() == ""


def test_the_raw_record_is_as_in_the_file(open_page: Opener) -> None:
    page = open_page({"old.jsonl": [{**OLD, "proponents": ["<b>x</b> \u202e", "y"]}, capital_rows()[0]]})
    assert page.locator(".raw pre").count() == 0  # written when it is asked for
    page.get_by_text("Raw record: old").click()
    text = page.locator(".raw pre").inner_text()
    assert '"temperature_samples"' in text
    assert "8b_generations" not in text
    assert "<b>x</b>" in text
    assert page.locator(".raw pre b").count() == 0
    assert page.locator(".raw pre .control").inner_text() == "RLO"
    clipboard = "{ value: { writeText: async (text) => void (window.copied = text) } }"
    page.evaluate(f"() => Object.defineProperty(navigator, 'clipboard', {clipboard})")
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert json.loads(page.evaluate("window.copied"))["proponents"] == ["<b>x</b> \u202e", "y"]
    page.keyboard.press("j")
    expect(page.locator(".raw pre")).to_contain_text('"fact_id": "f0"')  # it stays unfolded


def test_two_files_have_a_record_each(open_page: Opener) -> None:
    page = open_page({"one.jsonl": capital_rows(), "two.jsonl": capital_rows(gold_first=False)})
    assert page.locator(".raw summary").all_inner_texts() == ["Raw record: one", "Raw record: two"]
