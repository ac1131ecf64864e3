"""The page as one file that opens from disk."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.viewer.rows import capital_rows, lines_of, result_row

from proponent.errors import InputError
from proponent.viewer.export import export_page
from proponent.viewer.results import open_results


def exported(folder: Path, **files: list[Any]) -> Path:
    paths = []
    for name, rows in files.items():
        paths.append(folder / f"{name}.jsonl")
        paths[-1].write_text(lines_of(rows), "utf-8")
    output = folder / "page.html"
    export_page(open_results(paths), output)
    return output


def test_it_opens_from_disk_and_asks_for_nothing(page: Page, tmp_path: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    path = exported(tmp_path, one=capital_rows(), two=capital_rows(gold_first=False))
    page.goto(path.as_uri())
    expect(page.locator("#count")).to_have_text("8 queries")
    page.locator("[role=option]", has_text="Austria").click()
    page.get_by_role("button", name="Opponents").click()
    page.click("#view-overview")
    assert page.locator(".card.file").count() == 2
    page.go_back()
    page.click("#help")
    page.get_by_role("button", name="Close").click()
    address, seen = page.url, page.locator("#detail").inner_text()
    assert "Austria" in seen
    page.goto("about:blank")
    page.goto(address)
    assert page.locator("#detail").inner_text() == seen
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "about"}
    assert {url.partition("#")[0] for url in asked if url.startswith("file")} == {path.as_uri()}


def test_its_policy_lets_nothing_else_run(browser: Browser, tmp_path: Path) -> None:
    path = exported(tmp_path, one=capital_rows())
    html = path.read_text("utf-8").replace("</body>", "<script>window.foreign = true</script></body>")
    path.write_text(html, "utf-8")
    page = browser.new_page()
    blocked: list[str] = []
    page.on("console", lambda message: blocked.append(message.text))
    page.goto(path.as_uri())
    expect(page.locator("#count")).to_have_text("8 queries")
    assert page.evaluate("window.foreign") is None
    assert any("Content Security Policy" in text for text in blocked)
    page.close()


def test_text_cannot_end_the_data(page: Page, tmp_path: Path) -> None:
    nasty = "</script><script>document.title = 'owned'</script><!-- \u2028 \ud800 ]]>"
    rows = [result_row("f", nasty, "x", [("p", nasty, False)], score_of_nothing=float("nan"))]
    page.goto(exported(tmp_path, one=rows).as_uri())
    expect(page.locator("#count")).to_have_text("1 query")
    assert "</script><script>document.title = 'owned'</script><!--" in page.locator("#question").inner_text()
    assert page.title() != "owned"


def test_the_data_are_the_rows(tmp_path: Path) -> None:
    rows = capital_rows(note="a < b & c </script>")
    html = exported(tmp_path, one=rows, two=rows[:2]).read_text("utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    assert json.loads(found[1]) == [
        {"name": "one.jsonl", "lines": rows},
        {"name": "two.jsonl", "lines": rows[:2]},
    ]
    assert html.count("</script>") == 2
    assert "src=" not in html.split("<body>")[0]


def test_a_broken_line_leaves_no_half_a_page(tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    output.write_text("what was there", "utf-8")
    with pytest.raises(InputError, match=r"one\.jsonl:9"):
        exported(tmp_path, one=[*capital_rows(), {"no": "result"}])
    assert output.read_text("utf-8") == "what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.jsonl", "page.html"]
