"""Files by their address: off unless it is allowed, on a click only, and what can go wrong is said."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from tests.viewer.live.driving import serving
from tests.viewer.rows import capital_rows, lines_of

from proponent.viewer.export import export_page
from proponent.viewer.results import open_results
from proponent.viewer.security import Guard

OTHER = "https://other.test/"
ALLOWED = {"access-control-allow-origin": "*"}


@pytest.fixture
def asked(page: Page) -> list[str]:
    """What the page asks of other sites, in order; they answer with two queries, or as the path says."""
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        assert "cookie" not in route.request.headers
        assert "referer" not in route.request.headers
        rows = lines_of(capital_rows()[:2]).encode()
        if "broken" in route.request.url:
            route.fulfill(body=b'{"a": 1}\n', headers=ALLOWED)
        else:
            body = gzip.compress(rows) if route.request.url.endswith(".gz") else rows
            route.fulfill(body=body, headers=ALLOWED)

    page.route(f"{OTHER}**", answer)
    return asked


@pytest.fixture
def allowed(page: Page) -> Iterator[Callable[[str], Page]]:
    """Opens the page of a server that allows it."""
    with serving(guard=Guard(remote=True)) as address:

        def open_page(hash: str = "") -> Page:
            page.goto(f"{address}{hash}")
            page.wait_for_selector("body[data-view]")
            return page

        yield open_page


def test_a_file_is_loaded_by_its_address(allowed: Callable[..., Page], asked: list[str]) -> None:
    page = allowed()
    expect(page.locator("#welcome")).to_be_visible()
    page.get_by_label("Load a result file by its address").fill(f"{OTHER}data/hits.jsonl")
    assert asked == []
    page.get_by_role("button", name="Load", exact=True).click()
    expect(page.locator("#count")).to_have_text("2 queries")
    assert asked == [f"{OTHER}data/hits.jsonl"]
    page.fill("#address", f"{OTHER}more.jsonl.gz")
    page.keyboard.press("Enter")
    expect(page.locator("#files .chip")).to_have_text(["hits", "more"])


def test_an_address_in_a_link_waits_for_a_click(allowed: Callable[..., Page], asked: list[str]) -> None:
    page = allowed("#url=https%3A%2F%2Fother.test%2Fhits.jsonl")
    expect(page.locator("#address")).to_have_value(f"{OTHER}hits.jsonl")
    page.wait_for_timeout(300)
    assert asked == []
    page.get_by_role("button", name="Load", exact=True).click()
    expect(page.locator("#count")).to_have_text("2 queries")
    assert "url=https" in page.url


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hits.jsonl", "“hits.jsonl” is no address; it begins with https://"),
        ("file:///etc/passwd", "file: is not fetched; the address begins with https://"),
        ("javascript:alert(1)", "javascript: is not fetched"),
        ("https://me:secret@other.test/x.jsonl", "with a name or password in it is not fetched"),
        (f"{OTHER}broken.jsonl", "broken.jsonl:1: no field 'proponents'"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(
    allowed: Callable[..., Page], asked: list[str], address: str, words: str
) -> None:
    page = allowed()
    page.fill("#address", address)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").first).to_contain_text(words)
    assert asked == [address] * ("broken" in address)
    expect(page.get_by_role("button", name="Load", exact=True)).to_be_enabled()


class Closed(BaseHTTPRequestHandler):
    """A site that lets no other read its file, but for its saying that another is missing."""

    def do_GET(self) -> None:
        missing = "missing" in self.path
        self.send_response(404 if missing else 200)
        if missing:
            self.send_header("access-control-allow-origin", "*")
        self.end_headers()
        self.wfile.write(lines_of(capital_rows()).encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_what_another_server_refuses_is_said(browser: Browser) -> None:
    page = browser.new_page()  # its console has the browser's own word on this, which is no error of the page
    other = ThreadingHTTPServer(("127.0.0.1", 0), Closed)
    threading.Thread(target=other.serve_forever).start()
    try:
        with serving(guard=Guard(remote=True)) as address:
            page.goto(address)
            for name, words in (
                ("closed", "could not be fetched; check the address; else that server does not let other"),
                ("missing", "missing.jsonl: that server answers 404"),
            ):
                page.fill("#address", f"http://127.0.0.1:{other.server_port}/{name}.jsonl")
                page.keyboard.press("Enter")
                expect(page.locator("#error")).to_contain_text(words)
                expect(page.locator("#welcome")).to_be_visible()
            page.close()
    finally:
        other.shutdown()
        other.server_close()


def test_it_is_off_by_default(page: Page, tmp_path: Path) -> None:
    hits = tmp_path / "hits.jsonl"
    hits.write_text(lines_of(capital_rows()), "utf-8")
    with serving(open_results([hits])) as address:
        page.goto(f"{address}#url=https%3A%2F%2Fother.test%2Fhits.jsonl")
        expect(page.locator("#count")).to_have_text("8 queries")
        assert page.locator("#address").count() == 0
        expect(page.locator("#remote")).to_be_hidden()
        policy = page.request.get(address).headers["content-security-policy"]
    assert "connect-src 'self';" in policy
    export_page(open_results([hits]), tmp_path / "page.html")
    page.goto((tmp_path / "page.html").as_uri())
    expect(page.locator("#count")).to_have_text("8 queries")
    assert page.locator("#address").count() == 0
    assert "fetched; the address" not in (tmp_path / "page.html").read_text("utf-8")


def test_only_the_connections_of_the_policy_change() -> None:
    shut, open_ = Guard().headers, Guard(remote=True).headers
    assert shut.keys() == open_.keys()
    assert {name for name in shut if shut[name] != open_[name]} == {"content-security-policy"}
    rules = [dict(r.split(" ", 1) for r in h["content-security-policy"].split("; ")) for h in (shut, open_)]
    assert {name for name in rules[0] if rules[0][name] != rules[1][name]} == {"connect-src"}
    assert rules[1]["connect-src"] == "'self' https: http:"
