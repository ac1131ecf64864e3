"""Live tracing in a real browser, with a real server and a tiny model."""

from __future__ import annotations

from playwright.sync_api import Browser, Page, expect
from tests.viewer.live.conftest import TASK
from tests.viewer.live.driving import ask, ids, passages, scores, shown, slide

from proponent.viewer.live import LiveRun

# --- asking and tracing -----------------------------------------------------------------------------


def test_a_prompt_is_continued_and_a_continuation_traced(live: Page, live_run: LiveRun) -> None:
    live.fill("#live-prompt", "The capital of France is")
    live.press("#live-prompt", "Enter")
    words = live.locator(".live-word")
    expect(words.first).to_be_visible()
    text = words.first.locator("bdi").inner_text()
    assert words.first.locator(".live-share").inner_text().endswith("%")
    words.first.click()
    shown(live, "The capital of France is", text)
    assert live.input_value("#live-target") == text


def test_a_target_is_traced_as_the_library_traces_it(live: Page, live_run: LiveRun) -> None:
    ask(live, TASK[0].prompt, TASK[0].target)
    (hit,) = live_run.tracer.trace(TASK[:1], k=6, task=TASK)
    assert ids(live, "proponents") == [passage.id for passage in hit.proponents]
    assert ids(live, "opponents") == [passage.id for passage in hit.opponents]
    expect(live.locator(".live-result .proponents .is-gold")).to_have_attribute("data-id", "paris")
    expect(live.locator(".live-side [role=status]")).to_have_text("Traced: 6 proponents and 6 opponents.")


def test_nasty_passages_stay_text(live: Page) -> None:
    ask(live, "<b>Cats</b>", "<img src=x onerror=alert(1)>")
    nasty = passages(live, "proponents").filter(has_text="<script>alert(1)</script>")
    expect(nasty).to_have_count(1)
    assert live.locator("#live script, #live img, #live b").count() == 0


def test_the_slider_reranks_without_a_trace(live: Page, live_run: LiveRun) -> None:
    ask(live, "The capital of Norway is", "Oslo")
    asked: list[str] = []
    live.on("request", lambda request: asked.append(f"{request.method} {request.url.rsplit('/', 1)[1]}"))
    before = scores(live)
    slide(live, 200)
    expect(live.locator("#live-mix-value")).to_have_text("0.990")
    expect(live.locator(".live-result .proponents .score").first).not_to_have_text(before[0])
    assert live.locator("#live-mix").get_attribute("aria-valuetext") == "lambda 0.990"
    expect(live.get_by_role("button", name="auto", exact=True)).to_have_attribute("aria-pressed", "false")
    live.get_by_role("button", name="auto", exact=True).click()
    expect(live.locator(".live-result .proponents .score").first).to_have_text(before[0])
    assert scores(live) == before
    live.select_option("#live-method", "cosine")
    expect(live.locator("#live-mix")).to_be_disabled()
    expect(live.locator(".live-mix-note")).to_have_text("gradient cosine has no task mix.")
    expect(live.locator(".live-result .proponents .score").first).not_to_have_text(before[0])
    live.select_option("#live-k", "5")
    expect(passages(live, "opponents")).to_have_count(5)
    assert set(asked) == {"POST rerank"}


def test_many_moves_of_the_slider_end_at_the_last(live: Page) -> None:
    ask(live, TASK[1].prompt, TASK[1].target)
    slide(live, 250)
    expect(live.locator(".live-result .proponents .score").first).to_be_visible()
    live.wait_for_url("**&mix=0.996*")
    expected = scores(live)
    for step in range(0, 251, 10):
        slide(live, step)
    live.wait_for_url("**&mix=0.996*")
    live.wait_for_load_state("networkidle")
    assert scores(live) == expected
    expect(live.locator(".live-error")).to_be_hidden()


# --- history and address ----------------------------------------------------------------------------


def test_the_history_stays(live: Page) -> None:
    for query in TASK[:2]:
        ask(live, query.prompt, query.target)
    entries = live.locator(".live-entry")
    expect(entries).to_have_count(2)
    assert "Rome" in entries.nth(0).inner_text(), "the newest first"
    entries.nth(1).click()
    shown(live, TASK[0].prompt, TASK[0].target)
    expect(entries.nth(1)).to_have_attribute("aria-current", "true")
    live.go_back()
    shown(live, TASK[1].prompt, TASK[1].target)
    live.reload()
    expect(live.locator(".live-entry")).to_have_count(2)
    shown(live, TASK[1].prompt, TASK[1].target)
    live.get_by_role("button", name="Clear").click()
    expect(live.locator(".live-entry")).to_have_count(0)


def test_a_link_opens_the_same_view(live: Page, address: str) -> None:
    ask(live, TASK[2].prompt, TASK[2].target)
    live.select_option("#live-k", "5")
    slide(live, 100)
    live.wait_for_url("**&mix=0.9&k=5")
    link, expected = live.url, scores(live)
    browser = live.context.browser
    assert browser is not None
    other = browser.new_context().new_page()
    other.goto(link)
    shown(other, TASK[2].prompt, TASK[2].target)
    assert scores(other) == expected
    assert other.locator("#live-mix-value").inner_text() == "0.900"
    other.context.close()


def test_a_query_of_a_file_can_be_traced_live(page: Page, address: str) -> None:
    page.goto(address)
    page.locator("[role=option]").first.click()
    page.get_by_role("button", name=f"Trace “{TASK[0].target}”").click()
    shown(page, TASK[0].prompt, TASK[0].target)


def test_a_trace_that_the_server_forgot_is_made_again(browser: Browser, address: str) -> None:
    """In a page of its own: a browser tells of every 404 in its console."""
    page = browser.new_page()
    page.goto(f"{address}#view=live")
    ask(page, TASK[0].prompt, TASK[0].target)
    forgotten = {"detail": "there is no such trace"}
    page.route("**/rerank", lambda route: route.fulfill(status=404, json=forgotten), times=1)
    before = scores(page)
    with page.expect_request("**/api/traces"):
        slide(page, 200)
    expect(page.locator(".live-result .proponents .score").first).not_to_have_text(before[0])
    expect(page.locator(".live-entry")).to_have_count(1)
    page.close()
