"""The page in a real browser: what a reader of results does with it."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect
from tests.viewer.conftest import Opener
from tests.viewer.rows import capital_rows, result_row


def count(page: Page) -> str:
    return page.locator("#count").inner_text()


def prompts(page: Page) -> list[str]:
    return page.locator("[role=option] .prompt-line").all_inner_texts()


def test_a_file_is_listed_and_its_first_query_shown(open_page: Opener) -> None:
    page = open_page({"hits.jsonl": capital_rows()})
    assert count(page) == "8 queries"
    assert page.locator("#question").inner_text() == "The capital of Estonia is → Tallinn"
    first = page.locator(".proponents .passage").first
    assert "Tallinn is the capital of Estonia." in first.inner_text()
    assert "0.9000" in first.inner_text()
    assert "✓ gold" in first.inner_text()
    assert first.locator(".id").inner_text() == "s0"
    against = page.locator(".opponents .passage")
    assert against.count() == 2
    assert "−0.5000" in against.first.inner_text()
    expect(page.locator("#files")).to_be_hidden()


def test_search_takes_words_phrases_and_passages(open_page: Opener) -> None:
    page = open_page({"hits.jsonl": capital_rows()})
    page.fill("#search", "norway oslo")
    expect(page.locator("#count")).to_have_text("1 of 8 queries")
    assert prompts(page) == ["The capital of Norway is"]
    page.fill("#search", '"of norway"')
    expect(page.locator("#count")).to_have_text("1 of 8 queries")
    page.fill("#search", "long coast")
    expect(page.locator("#count")).to_have_text("0 of 8 queries")
    page.check("#within")
    expect(page.locator("#count")).to_have_text("8 queries")
    page.get_by_role("button", name="Clear search and filters").click()
    expect(page.locator("#search")).to_have_value("")


def test_filters_narrow_the_list(open_page: Opener) -> None:
    rows = capital_rows()
    for n, row in enumerate(rows):
        row["is_8b_correct"] = n < 3
    page = open_page({"hits.jsonl": rows})
    page.get_by_label("Gold passage").select_option("missed")
    assert count(page) == "4 of 8 queries"
    assert prompts(page)[0] == "The capital of Latvia is"
    page.get_by_label("The model").select_option("wrong")
    assert count(page) == "3 of 8 queries"
    assert "✗ wrong" in page.locator("[role=option]").first.inner_text()
    assert "✗ wrong" in page.locator(".verdict").inner_text()
    page.get_by_label("Relation").select_option("seat of government")
    assert count(page) == "1 of 8 queries"
    page.get_by_label("Top passage").select_option("subject only")
    assert count(page) == "0 of 8 queries"
    page.get_by_label("Top passage").select_option("target only")
    assert count(page) == "1 of 8 queries"


def test_queries_are_sorted_by_any_metric(open_page: Opener) -> None:
    rows = capital_rows()
    for n, row in enumerate(rows):
        row["c4_frequency"] = (n * 5) % 8
    page = open_page({"hits.jsonl": rows})
    page.get_by_label("Sort by").select_option(label="Reciprocal rank of gold")
    assert "Latvia" not in prompts(page)[0]
    page.get_by_role("button", name="Largest first; turn round").click()
    assert prompts(page)[0] == "The capital of Latvia is"
    page.get_by_label("Sort by").select_option(label="c4 frequency")
    assert prompts(page)[:2] == ["The capital of Norway is", "The capital of Switzerland is"]
    page.get_by_label("Sort by").select_option(label="Target, A to Z")
    assert prompts(page)[:2] == ["The capital of Switzerland is", "The capital of Ireland is"]


def test_the_keyboard_alone_is_enough(open_page: Opener) -> None:
    page = open_page({"hits.jsonl": capital_rows()})
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.locator("#list").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert "Lithuania" in page.locator("#question").inner_text()
    active = page.locator("#list").get_attribute("aria-activedescendant")
    option = page.locator(f"#{active}")
    assert option.get_attribute("aria-selected") == "true"
    assert option.get_attribute("aria-posinset") == "3"
    assert option.get_attribute("aria-setsize") == "8"
    page.keyboard.press("End")
    assert "Portugal" in page.locator("#question").inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.press("k")
    assert "Switzerland" in page.locator("#question").inner_text()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("#help").click()
    page.get_by_label("single letters are keys").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("k")
    assert "Switzerland" in page.locator("#question").inner_text()


def test_words_are_marked_each_in_its_own_way(open_page: Opener) -> None:
    page = open_page({"hits.jsonl": capital_rows()})
    marks = {
        role: page.locator(f".proponents .passage >> nth=0 >> mark.{role}").all_inner_texts()
        for role in ("subject", "target", "prompt")
    }
    assert marks == {"subject": ["Estonia"], "target": ["Tallinn"], "prompt": ["capital"]}
    styles = {
        role: page.locator(f".legend mark.{role}").evaluate(
            "e => [getComputedStyle(e).textDecorationStyle, getComputedStyle(e).backgroundColor].join()"
        )
        for role in ("subject", "target", "prompt")
    }
    assert len(set(styles.values())) == 3
    assert len({style.partition(",")[0] for style in styles.values()}) == 3  # told apart without colour


def test_a_long_passage_is_folded_around_the_match(open_page: Opener) -> None:
    filler = "It rained again that day and little else was written down. " * 20
    text = f"{filler}In the end Oslo became the capital of Norway. {filler}"
    page = open_page(
        {"hits.jsonl": [result_row("f", "The capital of Norway is", "Oslo", [("p", text, True)])]}
    )
    passage = page.locator(".proponents .passage")
    shown = passage.locator(".text").inner_text()
    assert "Oslo became the capital of Norway" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert len(shown) < 400
    fold = passage.get_by_role("button")
    assert fold.inner_text() == f"Show all {len(text):,} characters"
    fold.click()
    assert passage.locator(".text").inner_text().strip() == text.strip()
    assert fold.get_attribute("aria-expanded") == "true"
    fold.click()
    assert passage.locator(".text").inner_text() == shown


def test_hostile_text_stays_text(open_page: Opener) -> None:
    nasty = (
        "<script>document.title='owned'</script><img src=x onerror=alert(1)> {{7*7}} \u202etxet\u202c \u0007"
    )
    page = open_page(
        {
            "<b>hits</b>.jsonl": [
                result_row(
                    nasty, f"{nasty} is", nasty, [(nasty, nasty, True)], [(nasty, nasty)], relation=nasty
                )
            ]
        }
    )
    text = page.locator(".proponents .text")
    assert "<script>document.title='owned'</script><img src=x onerror=alert(1)>" in text.inner_text()
    assert page.locator("#pane script, #pane img, #side script, #side img").count() == 0
    # what would turn the text round is named, not obeyed
    assert text.locator(".control").all_inner_texts() == ["RLO", "PDF", "U+0007"]
    assert "\u202e" not in page.locator("#detail .text").first.inner_text()
    assert "owned" not in page.title().split("→")[0].replace("document.title='owned'", "")


def test_the_address_holds_the_state(open_page: Opener, page: Page) -> None:
    files = {"a.jsonl": capital_rows(), "b.jsonl": capital_rows(gold_first=False)}
    open_page(files)
    page.get_by_label("Gold passage").select_option("missed")
    page.get_by_label("Sort by").select_option(label="Target, A to Z")
    page.fill("#search", "capital")
    page.locator("[role=option]", has_text="Norway").click()
    page.get_by_role("button", name="Opponents").click()
    expect(page).to_have_url(re.compile("s=capital.*role=opponents"))
    address, seen = page.url, page.locator("#detail").inner_text()
    listed = prompts(page)
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("#search")).to_have_value("capital")
    assert prompts(page) == listed
    assert page.locator("#detail").inner_text() == seen
    assert page.locator("[role=option][aria-selected=true]").inner_text().startswith("The capital of Norway")
    page.click("#view-overview")
    page.go_back()
    expect(page.locator("#detail")).to_be_visible()


def test_a_search_does_not_take_away_the_button_that_is_being_pressed(open_page: Opener, page: Page) -> None:
    open_page({"a.jsonl": capital_rows(), "b.jsonl": capital_rows(gold_first=False)})
    page.get_by_role("button", name="Opponents").hover()
    page.fill("#search", "norway")
    page.mouse.down()
    page.wait_for_timeout(400)  # longer than the search waits for another key
    expect(page.locator("#count")).to_have_text("8 queries")
    page.mouse.up()
    expect(page.get_by_role("button", name="Opponents")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#count")).to_have_text("1 of 8 queries")


def test_two_methods_stand_side_by_side_and_shared_passages_are_linked(open_page: Opener) -> None:
    page = open_page({"one.jsonl": capital_rows(), "two.jsonl": capital_rows(gold_first=False)})
    assert page.locator(".compared .column h3").all_inner_texts() == [
        "one gold at rank 1 · 2 passages shared",
        "two no gold · 2 passages shared",
    ]
    assert page.locator(".links path").count() == 2
    link = page.get_by_role("button", name="also at rank 1 in two")
    link.click()
    twin = page.locator('[data-column="1"] [data-rank="1"]')
    expect(twin).to_be_focused()
    assert twin.get_attribute("data-id") == "t0"
    assert "lit" in (page.locator('[data-column="0"] [data-id="t0"]').get_attribute("class") or "")
    page.get_by_label("Sort by").select_option(label="Reciprocal rank, first − second file")
    assert "Estonia" in prompts(page)[0]
    page.get_by_role("button", name="two", exact=True).click()
    assert page.locator(".columns.two").count() == 1
    assert "files=one.jsonl" in page.url


def test_the_overview_has_the_metrics_of_every_file(open_page: Opener) -> None:
    page = open_page(
        {"one.jsonl": capital_rows(method="trackstar", mix=0.5), "two.jsonl": capital_rows(False)}
    )
    page.click("#view-overview")
    card = page.get_by_role("region", name="one")
    assert "MRR\n0.500 ± 0.346" in card.inner_text()
    assert "Recall@10\n50.0% ± 34.6%" in card.inner_text()
    assert "one 8 queries" in card.inner_text()
    assert "TrackStar, λ = 0.500" in card.inner_text()
    ranks = card.get_by_role("img", name="Rank of the first gold passage").get_attribute("aria-label") or ""
    assert ranks.startswith("Rank of the first gold passage: 1: 4, 2: 0")
    assert ranks.endswith("none: 4 queries")
    assert "gold passages (4)" in card.inner_text()
    page.get_by_role("button", name="seat of government").click()
    assert count(page) == "2 of 8 queries"
    assert "rel=seat+of+government" in page.url


def test_tokens_are_shaded_where_the_file_has_them(open_page: Opener) -> None:
    row = result_row("f", "The capital of Norway is", "Oslo", [("p", "Oslo is big.", True)])
    row["proponent_tokens"] = [[["Oslo", 0.5], [" is", -0.25], [" big", 0.0], [".", 0.1]]]
    page = open_page({"hits.jsonl": [row]})
    assert page.locator(".passage .shade").count() == 0
    page.get_by_role("button", name="Shade tokens").click()
    assert page.locator(".passage .shade").all_inner_texts() == ["Oslo", " is", " big", "."]
    assert page.locator(".passage .shade.against").all_inner_texts() == [" is"]
    strengths = page.locator(".passage .shade").evaluate_all(
        "all => all.map(e => e.style.getPropertyValue('--shade'))"
    )
    assert strengths == ["70%", "35%", "0%", "14%"]
    assert page.locator(".passage mark.target").inner_text() == "Oslo"
    assert "tokens=1" in page.url


def test_target_tokens_say_which_of_them_asked(open_page: Opener) -> None:
    row = result_row(
        "f", "The capital of Norway is", "Oslo", [("p", "Oslo is big.", True), ("r", "No.", False)]
    )
    row["proponent_tokens"] = [[["", 9.0], ["Oslo is big.", 0.5]], None]
    row["proponent_target_tokens"] = [[[" Os<b>", 2.0], ["lo", -0.5]], None]
    page = open_page({"hits.jsonl": [row]})
    assert page.locator(".asked").count() == 0
    page.get_by_role("button", name="Shade tokens").click()
    assert page.locator(".asked").all_inner_texts() == ["asked by Os<b> 2.0000 lo −0.5000"]
    # the prefix has no text to shade, and the target is marked within the token
    assert page.locator(".passage .shade").all_inner_texts() == ["Oslo", " is big."]


def test_diverse_and_merged_passages_say_so(open_page: Opener) -> None:
    rows = capital_rows()
    count = len(rows[0]["proponents"])
    rows[0]["proponent_adds"] = [0.5 / (n + 1) for n in range(count)]
    rows[0]["proponent_duplicates"] = [["<b>x</b>", "y"], *[[]] * (count - 1)]
    page = open_page({"one.jsonl": rows[:1]}, hash="#query=" + rows[0]["example_id"])
    first = page.locator(".passage-head").first
    assert "adds 0.5000" in first.inner_text()
    assert "and 2 near-identical" in first.inner_text()
    assert page.locator(".passage-head", has_text="near-identical").count() == 1
