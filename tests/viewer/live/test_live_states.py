"""The live view while it works, when it cannot, and for those who use no mouse or no eyes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect
from tests.viewer.live.conftest import PASSAGES, TASK
from tests.viewer.live.driving import ask, ids, scores, serving, shown
from tests.viewer.test_accessibility import violations

from proponent.attribute.continuations import Continuation
from proponent.attribute.live import Traced
from proponent.progress import Progress
from proponent.viewer.live import LiveRun
from proponent.viewer.security import Guard

# --- progress, cancelling, errors -------------------------------------------------------------------


class Halting(LiveRun):
    """A run whose traces wait until they are let go."""

    def __init__(self, run: LiveRun) -> None:
        self.__dict__.update(run.__dict__)
        self.go = threading.Event()

    def trace(self, prompt: str, target: str, progress: Progress) -> Traced:
        with progress.stage("searching", 100, "passages") as advance:
            advance(40)
            while not self.go.wait(0.01):
                advance(0)
        return super().trace(prompt, target, progress)


class Waiting(LiveRun):
    """A run whose continuations never come."""

    def __init__(self, run: LiveRun) -> None:
        self.__dict__.update(run.__dict__)
        self.started, self.ended = threading.Event(), threading.Event()

    def continuations(self, prompt: str, count: int, progress: Progress) -> list[Continuation]:
        with progress.stage("waiting", None, "turns") as advance:
            self.started.set()
            try:
                while not time.sleep(0.01):
                    advance(0)
            finally:
                self.ended.set()
        return []


def test_progress_is_shown_and_a_trace_cancelled(page: Page, live_run: LiveRun) -> None:
    run = Halting(live_run)
    with serving(run=run) as address:
        page.goto(address)
        page.fill("#live-prompt", "Cats sleep all")
        page.fill("#live-target", "day")
        page.press("#live-target", "Enter")
        status = page.locator(".live-side [role=status]")
        expect(status).to_have_text("Searching: 40 of 100")
        expect(page.get_by_role("progressbar")).to_have_js_property("value", 0.4)
        with page.expect_request(lambda request: request.method == "DELETE"):
            page.get_by_role("button", name="Cancel").click()
        expect(status).to_have_text("Cancelled.")
        expect(page.get_by_role("progressbar")).to_be_hidden()
        run.go.set()
        page.press("#live-target", "Enter")
        shown(page, "Cats sleep all", "day")


def test_what_nobody_waits_for_is_cancelled(live_run: LiveRun) -> None:
    run = Waiting(live_run)
    with serving(run=run) as address:
        connection = HTTPConnection(urlsplit(address).netloc)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/api/continuations", '{"prompt": "Cats"}', headers)
        assert run.started.wait(5)
        connection.close()
        assert run.ended.wait(5)


@pytest.mark.parametrize(
    ("prompt", "target", "words"),
    [
        ("", "day", "Write a prompt first."),
        ("Cats", "", "Write a target, or ask what the model would say and choose."),
        ("Cats", "d" * 60, "its target would be cut off"),
    ],
)
def test_what_is_wrong_is_said_in_words(prompt: str, target: str, words: str, live: Page) -> None:
    live.fill("#live-prompt", prompt)
    live.fill("#live-target", target)
    live.press("#live-target", "Enter")
    expect(live.locator(".live-error")).to_contain_text(words)
    assert live.locator(".live-error").get_attribute("role") == "alert"


def test_without_a_task_the_page_says_how_to_get_one(page: Page, run_folder: Path) -> None:
    with serving(run=LiveRun(run_folder, None, "cpu")) as address:
        page.goto(address)
        expect(page.locator("#live-mix")).to_be_disabled()
        expect(page.locator(".live-mix-note")).to_contain_text("--task QUERIES")
        ask(page, TASK[0].prompt, TASK[0].target)
        assert len(ids(page, "proponents")) == len(PASSAGES)


def test_the_token_opens_the_page_and_leaves_the_address(page: Page, live_run: LiveRun) -> None:
    guard = Guard(token="a-token-of-the-test")
    with serving(run=live_run, guard=guard) as address:
        page.goto(address)
        page.wait_for_selector("#live-prompt")
        assert "token" not in page.url
        ask(page, TASK[0].prompt, TASK[0].target)
        assert page.evaluate("document.cookie") == "", "scripts cannot read it"


# --- for everybody ----------------------------------------------------------------------------------


def empty(page: Page) -> None:
    """As it opens."""


def traced(page: Page) -> None:
    page.fill("#live-prompt", "The capital of France is")
    page.press("#live-prompt", "Enter")
    page.locator(".live-word").first.click()
    expect(page.locator("#live-question")).to_be_visible()


def refused(page: Page) -> None:
    page.get_by_role("button", name="Trace", exact=True).click()
    expect(page.locator(".live-error")).to_be_visible()


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("state", [empty, traced, refused])
def test_accessibility(colours: str, width: int, state: Callable[[Page], None], live: Page) -> None:
    live.emulate_media(color_scheme="light" if colours == "light" else "dark", reduced_motion="reduce")
    live.set_viewport_size({"width": width, "height": 800})
    state(live)
    assert violations(live) == []
    assert live.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"


def test_the_keyboard_alone_is_enough(live: Page) -> None:
    live.focus("#live-prompt")
    live.keyboard.type("The capital of Italy is")
    live.keyboard.press("Enter")
    expect(live.locator(".live-word").first).to_be_visible()
    live.keyboard.press("Tab")
    live.keyboard.press("Tab")
    expect(live.locator(".live-word").first).to_be_focused()
    live.keyboard.press("Enter")
    expect(live.locator("#live-question")).to_be_visible()
    before = scores(live)
    live.focus("#live-mix")
    live.keyboard.press("End")
    expect(live.locator("#live-mix-value")).to_have_text("0.999")
    expect(live.locator(".live-result .proponents .score").first).not_to_have_text(before[0])
