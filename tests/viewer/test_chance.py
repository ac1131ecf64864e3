"""The page says how many passages would score as high by chance, and where nothing stands out."""

from __future__ import annotations

from playwright.sync_api import expect
from tests.viewer.conftest import Opener
from tests.viewer.rows import result_row


def row(id: str, chance: list[float | None] | None) -> dict[str, object]:
    passages = [(f"{id}{n}", f"Passage {n} of {id}.", False) for n in range(3)]
    more = {} if chance is None else {"proponent_chance": chance}
    return result_row(id, f"The capital of {id} is", "Riga", passages, [("o", "No.")], **more)


def test_scores_that_chance_explains_are_faint(open_page: Opener) -> None:
    page = open_page({"hits.jsonl": [row("one", [0.0004, 0.034, 12.7]), row("two", [0.976, 9.2, 250.0])]})
    cards = page.locator(".proponents .passage")
    assert [card.inner_text() for card in cards.locator(".chance").all()] == [
        "< 0.001 by chance",
        "0.034 by chance",
        "13 by chance",
    ]
    assert ["faint" in (card.get_attribute("class") or "") for card in cards.all()] == [False, False, True]
    assert page.locator(".opponents .chance").count() == 0, "the file does not say"
    expect(page.locator("#detail")).not_to_contain_text("Nothing stands out")
    page.keyboard.press("j")
    expect(page.locator("#detail .nothing")).to_have_text(
        "Nothing stands out: by chance alone, about 0.98 passages would score as high as the first."
    )
    assert page.locator(".proponents .passage.faint").count() == 3
    assert page.locator(".proponents .chance").last.inner_text() == "100+ by chance"


def test_a_file_that_does_not_say_shows_nothing_of_it(open_page: Opener) -> None:
    page = open_page({"hits.jsonl": [row("one", None), row("two", [None, None, None])]})
    for _ in range(2):
        assert page.locator(".chance, .faint, .nothing").count() == 0
        page.keyboard.press("j")
