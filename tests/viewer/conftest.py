"""A real browser for the page, and the page served to it without a server."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright
from tests.viewer.rows import lines_of

import proponent.viewer

PAGE_FILES = Path(proponent.viewer.__file__).parent / "page"
ADDRESS = "http://viewer.test/"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_browser() -> str | None:
    """Path of a Chromium or Chrome of this machine."""
    found = (shutil.which(name) for name in NAMES)
    return next(filter(None, found), next((place for place in PLACES if Path(place).is_file()), None))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        missing = f"no browser here (looked for {', '.join(NAMES)}); install Chromium or Chrome"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def watched(page: Page) -> Iterator[Page]:
    """The page; an error in its console or its scripts fails the test."""
    errors: list[str] = []
    listeners: dict[Any, Callable[[Any], None]] = {
        "console": lambda message: errors.append(message.text) if message.type == "error" else None,
        "pageerror": lambda error: errors.append(str(error)),
        "dialog": lambda dialog: errors.append(f"a dialog: {dialog.message}"),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    yield page
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    assert errors == []


@pytest.fixture(scope="session")
def tab(browser: Browser) -> Iterator[Page]:
    """A page for the tests to take turns with: a new one for each takes four times as long."""
    context = browser.new_context(locale="en-GB")
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """An empty page of 1280 x 800 pixels that nothing is left in by other tests."""
    tab.set_viewport_size({"width": 1280, "height": 800})
    tab.emulate_media(media="null", color_scheme="null", reduced_motion="null", forced_colors="null")
    tab.mouse.move(0, 0)
    with watched(tab):
        yield tab
    tab.unroute_all()
    tab.goto("about:blank")
    session = tab.context.new_cdp_session(tab)
    session.send("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
    session.detach()


@pytest.fixture(scope="session")
def modules(browser: Browser) -> Iterator[Page]:
    """A page without files, to call the functions of its modules; leave it as it is."""
    context = browser.new_context(locale="en-GB")
    with watched(context.new_page()) as page:
        yield _opened(page, {})
    context.close()


Opener = Callable[..., Page]


@pytest.fixture
def open_page(page: Page) -> Opener:
    """Open the served page on result files, given by name as lists of rows.

    The answers are those of the server's contract, its content policy included.
    """

    return partial(_opened, page)


def _opened(page: Page, files: dict[str, list[Any]], hash: str = "", width: int = 1280) -> Page:
    page.set_viewport_size({"width": width, "height": 800})
    page.route(ADDRESS + "**", lambda route: _answer(route, files))
    page.goto(f"{ADDRESS}{hash}")
    page.wait_for_selector("body[data-view]")
    return page


def _answer(route: Route, files: dict[str, list[Any]]) -> None:
    path = urlsplit(route.request.url).path.removeprefix("/") or "index.html"
    if path == "api/state":
        state = {"files": [{"name": name} for name in files], "run": None}
        route.fulfill(body=json.dumps(state), content_type="application/json")
    elif path.startswith("api/files/"):
        rows = list(files.values())[int(path.rpartition("/")[2])]
        route.fulfill(body=lines_of(rows), content_type="application/x-ndjson")
    else:
        body = (PAGE_FILES / path).read_bytes()
        headers = {"Content-Security-Policy": POLICY, "Content-Type": TYPES[Path(path).suffix]}
        route.fulfill(body=body, headers=headers)
