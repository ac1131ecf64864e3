"""What the page says of a list of passages: the method that made it, and what it does and does not show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.viewer.conftest import Opener
from tests.viewer.rows import capital_rows, lines_of

from proponent.viewer.export import export_page
from proponent.viewer.results import open_results

PUSH = "estimated to push towards the target"
NO_PROOF = "no proof that leaving a passage out would change the answer"
NOT_ASKED = "the model was not asked"
# Fields of the file; then the method's name, what is said of the proponents, and of the whole list.
METHODS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"method": "trackstar", "mix": 0.5}, "TrackStar, λ = 0.500", PUSH, NO_PROOF),
    ({"method": "trackstar,hessian=none"}, "TrackStar, hessian=none", PUSH, NO_PROOF),
    ({"method": "cosine", "mix": None}, "gradient cosine", PUSH, NO_PROOF),
    ({"method": "dot"}, "gradient dot product", PUSH, NO_PROOF),
    ({"method": "trak"}, "TRAK", PUSH, NO_PROOF),
    ({"method": "kronecker"}, "Kronecker-corrected gradients", PUSH, NO_PROOF),
    ({"method": "exact"}, "gradients without projection", PUSH, NO_PROOF),
    ({"method": "bm25"}, "BM25", "by the words that they share", f"Word overlap only: {NOT_ASKED}"),
    ({"method": "embedding"}, "sentence embeddings", "by their likeness", NOT_ASKED),
    ({"method": "random"}, "random passages", "drawn by chance", "A control for other methods"),
    ({"method": "theirs"}, "theirs", "with the highest scores", NO_PROOF),
    ({"method": "constructor"}, "constructor", "with the highest scores", NO_PROOF),
    ({"method": 7}, "7", "with the highest scores", NO_PROOF),
    ({}, "Method not stated", "with the highest scores", NO_PROOF),
]


@pytest.mark.parametrize(("fields", "name", "meaning", "shows"), METHODS)
def test_each_kind_of_method_has_words_of_its_own(
    open_page: Opener, fields: dict[str, Any], name: str, meaning: str, shows: str
) -> None:
    page = open_page({"hits.jsonl": capital_rows(**fields)})
    assert meaning in page.locator(".proponents h3").inner_text()
    expect(page.locator("#detail .method strong")).to_have_text(name)
    expect(page.locator("#detail .method")).to_contain_text(shows)
    expect(page.locator("#detail .method")).to_be_in_viewport()
    assert ("push" in page.locator("#detail").inner_text()) == (meaning == PUSH)
    page.click("#view-overview")
    expect(page.locator(".card.file .method")).to_contain_text(shows)


def test_methods_side_by_side_each_have_their_line(open_page: Opener) -> None:
    ours, bm25 = capital_rows(method="trackstar", mix=0.9), capital_rows(False, method="bm25")
    page = open_page({"hits.jsonl": ours, "bm25.jsonl": bm25[1:]})
    assert [line.partition(" ")[0] for line in page.locator(".column .method").all_inner_texts()] == [
        "TrackStar,",
        "BM25",
    ], "the second file has no such query, and still a method"
    page.get_by_role("button", name="Opponents").click()
    assert page.locator(".column .method").count() == 2


@pytest.mark.parametrize(("fields", "name", "meaning", "shows"), [METHODS[0], *METHODS[5:9], METHODS[-1]])
def test_an_exported_page_says_what_its_list_does_not_prove(
    page: Page, tmp_path: Path, fields: dict[str, Any], name: str, meaning: str, shows: str
) -> None:
    hits = tmp_path / "hits.jsonl"
    hits.write_text(lines_of(capital_rows(**fields)), "utf-8")
    export_page(open_results([hits]), tmp_path / "page.html")
    page.goto((tmp_path / "page.html").as_uri())
    line = page.locator("#detail .method")
    expect(line).to_contain_text(name)
    expect(line).to_contain_text(shows)
    page.emulate_media(media="print")
    expect(line).to_be_visible()
