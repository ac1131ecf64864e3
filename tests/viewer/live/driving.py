"""A real server in a thread, and the live view in a browser driven as a person does."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from playwright.sync_api import Locator, Page, expect

from proponent.viewer.app import create_app
from proponent.viewer.live import LiveRun
from proponent.viewer.results import ResultFile
from proponent.viewer.security import Guard
from proponent.viewer.server import address_of, bound


@contextmanager
def serving(
    files: Sequence[ResultFile] = (), run: LiveRun | None = None, guard: Guard | None = None
) -> Iterator[str]:
    """A server in a thread of its own; its address."""
    with bound("127.0.0.1", 0) as listening:
        app = create_app(files, run, guard)
        config = uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield address_of("127.0.0.1", listening.getsockname()[1], guard.token if guard else None)
        finally:
            server.should_exit = True
            thread.join(10)


def ask(page: Page, prompt: str, target: str) -> None:
    """Write a query and trace it."""
    page.fill("#live-prompt", prompt)
    page.fill("#live-target", target)
    page.get_by_role("button", name="Trace", exact=True).click()
    shown(page, prompt, target)


def shown(page: Page, prompt: str, target: str) -> None:
    """Wait until the page shows the passages of a query."""
    expect(page.locator("#live-question")).to_have_text(f"{prompt} → {target}")
    expect(page.locator(".live-result .proponents .passage").first).to_be_visible()


def slide(page: Page, step: int) -> None:
    page.locator("#live-mix").evaluate(
        "(slider, step) => { slider.value = step; slider.dispatchEvent(new Event('input')) }", step
    )


def ids(page: Page, role: str) -> list[str]:
    return [str(card.get_attribute("data-id")) for card in passages(page, role).all()]


def passages(page: Page, role: str) -> Locator:
    return page.locator(f".live-result .{role} .passage")


def scores(page: Page) -> list[str]:
    return page.locator(".live-result .proponents .score").all_inner_texts()
