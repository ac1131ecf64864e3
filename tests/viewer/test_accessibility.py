"""The accessibility rules of axe on every main state of the page, light and dark, wide and narrow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Page
from tests.viewer.conftest import Opener
from tests.viewer.rows import capital_rows

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Page) -> list[str]:
    """What axe finds wrong, each with the elements."""
    page.evaluate(AXE)
    options = json.dumps({"runOnly": RULES, "resultTypes": ["violations"]})
    found = page.evaluate(f"axe.run(document, {options})")["violations"]
    return [f"{rule['id']}: {[node['html'] for node in rule['nodes']]}" for rule in found]


def nothing(page: Page) -> None:
    """The state that the page opens in."""


def compare_tokens(page: Page) -> None:
    page.get_by_role("button", name="Shade tokens").click()
    page.get_by_role("button", name="Opponents").click()


def overview(page: Page) -> None:
    page.click("#view-overview")


def keys(page: Page) -> None:
    page.click("#help")


def error(page: Page) -> None:
    page.set_input_files("#open", {"name": "bad.jsonl", "mimeType": "text/plain", "buffer": b"nothing\n"})
    page.wait_for_selector("#error:not([hidden])")


def first_query(page: Page) -> None:
    page.locator("[role=option]").first.click()


def filter_and_record(page: Page) -> None:
    page.fill("#where", "recall@10 = 0 and relatio = capital")
    page.wait_for_selector("#where-error:not([hidden])")
    page.click("#where-help summary")
    page.click(".samples summary")
    page.locator(".raw summary").first.click()


STATES: dict[str, tuple[int, int, Callable[[Page], None]]] = {
    "welcome": (0, 1280, nothing),
    "one file": (1, 1280, nothing),
    "comparison": (2, 1280, compare_tokens),
    "overview": (2, 1280, overview),
    "keys": (1, 1280, keys),
    "error": (1, 1280, error),
    "filter and record": (2, 1280, filter_and_record),
    "narrow list": (2, 390, nothing),
    "narrow query": (2, 390, first_query),
    "narrow overview": (2, 390, overview),
}


@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing(open_page: Opener, page: Page, state: str) -> None:
    files, width, reach = STATES[state]
    rows = capital_rows(is_8b_correct=False)
    for row in rows:
        row["proponent_tokens"] = [[[text, 0.5]] for text in row["proponents"]]
        row["8b_generations"] = ["Minsk", "Minsk", row["targets_plaintext"]]
        row["proponent_ais_scores"] = [0.75] * len(row["proponents"])
        row["proponent_ais_best_windows"] = row["proponents"]
    both = {"one.jsonl": rows, "two.jsonl": capital_rows(gold_first=False)}
    grounds = set()
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours)  # type: ignore[arg-type]
        page.goto("about:blank")
        open_page(dict(list(both.items())[:files]), width=width)
        reach(page)
        assert violations(page) == [], colours
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2, "the page follows the scheme"


def test_axe_is_at_work(open_page: Opener) -> None:
    page = open_page({"one.jsonl": capital_rows()})
    page.evaluate("document.getElementById('pane').append(document.createElement('img'))")
    assert any("image-alt" in violation for violation in violations(page))
