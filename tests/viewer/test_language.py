"""The filter in words: what it says, by its own module and in the page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.viewer.conftest import Opener
from tests.viewer.rows import capital_rows, result_row

RECORD = {
    "relation": "place of birth",
    "frequency": 3,
    "share": 0.25,
    "right": False,
    "said": ["Riga", "Oslo"],
    "id": "7",
    "nothing": None,
    "quoted": 'say "so"',
}


def holds(page: Page, text: str, record: dict[str, Any] = RECORD) -> bool:
    return bool(
        page.evaluate(
            """async ([text, record]) => {
              const { parse, holds } = await import("/language.js");
              return holds(parse(text), (name) => record[name]);
            }""",
            [text, record],
        )
    )


def error(page: Page, text: str) -> tuple[int, str]:
    found = page.evaluate(
        """async (text) => {
          const { parse, LanguageError } = await import("/language.js");
          try {
            parse(text);
          } catch (error) {
            if (error instanceof LanguageError) return [error.at, error.message];
            throw error;
          }
          return null;
        }""",
        text,
    )
    assert found is not None, f"{text} is a filter"
    return found[0], found[1]


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("frequency = 3", True),
        ("frequency == 3.0", True),
        ("frequency != 3", False),
        ("frequency < 3", False),
        ("frequency <= 3", True),
        ("frequency>2", True),
        ("share >= 2.5e-1", True),
        ("right = false", True),
        ("right = TRUE", False),
        ('relation = "place of birth"', True),
        ('relation = "Place of Birth"', True),
        ("relation = place", False),
        ("relation ~ BIRTH", True),
        ("relation > 3", False),  # no number, so no comparison with one holds
        ("said = riga", True),  # one of a list is enough
        ("said != riga", False),  # the opposite of =
        ("said ~ os", True),
        ("id = 7", True),
        ("id > 6", True),
        ("nothing = none", True),
        ("missing = none", True),
        ("missing != 3", True),
        ("missing < 3", False),
        ("missing ~ x", False),
        ("frequency = none", False),
        ('relation = "none"', False),
        ('quoted = "say \\"so\\""', True),
        ("not frequency = 3", False),
        ("not not frequency = 3", True),
        ("frequency = 1 or frequency = 3 and right = false", True),
        ("(frequency = 1 or frequency = 3) and right = true", False),
        ("frequency = 3 or frequency = 1 and right = true", True),  # and binds more tightly
        ("NOT (frequency = 1) AND said = Oslo", True),
        ('"frequency" = 3', True),
    ],
)
def test_what_a_filter_says(modules: Page, text: str, true: bool) -> None:
    assert holds(modules, text) is true


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("frequency", 9, "the end: after the field frequency comes one of = !="),
        ("frequency =", 11, "the end: expected a value after ="),
        ("frequency = and", 12, "“and”: expected a value after ="),
        ("= 3", 0, "“=”: expected the name of a field"),
        ("relation = place of birth", 17, "“of”: expected and, or, or the end; a value of several words"),
        ("frequency = 3 and", 17, "the end: expected the name of a field"),
        ("(frequency = 3", 0, "this ( is not closed"),
        ("frequency = 3)", 13, "this ) closes nothing"),
        ('relation = "place', 11, "this quotation mark is not closed"),
        ("frequency < many", 12, "“many” is no number, and < compares numbers"),
        ("frequency ! 3", 10, "“!” means nothing here"),
        ("()", 1, "“)”: expected the name of a field"),
    ],
)
def test_what_is_no_filter_is_said_with_its_place(modules: Page, text: str, at: int, words: str) -> None:
    place, message = error(modules, text)
    assert place == at
    assert words in message


def test_an_empty_filter_is_none(modules: Page) -> None:
    assert modules.evaluate("async () => (await import('/language.js')).parse('  ')") is None


def test_the_page_filters_by_fields_and_metrics(open_page: Opener) -> None:
    rows = capital_rows()
    for n, row in enumerate(rows):
        row["c4_frequency"] = n
        row["8b_generations"] = ["Minsk", "Oslo"] if n < 2 else ["Riga"]
    page = open_page({"hits.jsonl": rows})
    for text, left in (
        ("recall@10 = 0", 4),
        ("recall@10 = 0 and relation = capital", 3),
        ("mrr = 1 and c4_frequency >= 4", 2),
        ("rank = 1 or not relation = capital", 5),
        ("precision@2 = 0.5", 4),
        ("8b_generations = oslo", 2),
        ("proponents ~ weather and prompt ~ estonia", 1),
        ('relation = "seat of government"', 2),
        ("score < 0.5", 0),
        ("model = none", 8),
    ):
        page.fill("#where", text)
        expect(page.locator("#count")).to_have_text("8 queries" if left == 8 else f"{left} of 8 queries")
        expect(page.locator("#where-error")).to_be_hidden()
    page.get_by_role("button", name="Clear search and filters").click()
    expect(page.locator("#where")).to_have_value("")
    expect(page.locator("#count")).to_have_text("8 queries")


def test_an_error_is_beside_the_box_and_the_filter_is_not_applied(open_page: Opener) -> None:
    page = open_page({"hits.jsonl": capital_rows()})
    page.fill("#where", "recall@10 = 0 and relatio = capital")
    alert = page.locator("#where-error")
    expect(alert).to_contain_text("Not applied. Character 19: no field is called “relatio”; is it relation?")
    expect(alert.locator("mark")).to_have_text("relatio = capital")
    expect(page.locator("#where")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#count")).to_have_text("8 queries")
    page.fill("#where", "recall@10 = 0 and relation = capital")
    expect(alert).to_be_hidden()
    expect(page.locator("#count")).to_have_text("3 of 8 queries")


def test_the_address_holds_the_filter_and_the_fields(open_page: Opener, page: Page) -> None:
    rows = [{**row, "c4_frequency_bucket": n % 3} for n, row in enumerate(capital_rows())]
    open_page({"hits.jsonl": rows})
    page.fill("#where", "recall@10 = 1")
    page.locator("#filter-is-c4_frequency_bucket").select_option("1 (3)")
    expect(page.locator("#count")).to_have_text("1 of 8 queries")
    expect(page).to_have_url(re.compile(r"where=recall%4010\+%3D\+1.*is=c4_frequency_bucket%3D1"))
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("#where")).to_have_value("recall@10 = 1")
    expect(page.locator("#filter-is-c4_frequency_bucket")).to_have_value("1")
    expect(page.locator("#count")).to_have_text("1 of 8 queries")


def test_a_hostile_filter_stays_text(open_page: Opener) -> None:
    nasty = "<img src=x onerror=alert(1)>"
    page = open_page({"hits.jsonl": [result_row("f", "a", "b", [("p", "x", True)], **{nasty: 1})]})
    page.click("#where-help summary")
    expect(page.locator("#where-fields")).to_contain_text(f'"{nasty}"')
    page.fill("#where", f'"{nasty}')
    expect(page.locator("#where-error mark")).to_have_text(f'"{nasty}'[:24])
    page.fill("#where", f'"{nasty}" = 1')
    expect(page.locator("#count")).to_have_text("1 query")
    assert page.locator("#side img").count() == 0
