"""Every rule of who may talk to the server, each with a request that breaks it and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from proponent.errors import InputError
from proponent.viewer.app import create_app
from proponent.viewer.live import LiveRun
from proponent.viewer.security import CONTENT_POLICY, Guard, is_loopback
from proponent.viewer.server import address_of, bound

HOST = "localhost:8321"
QUESTION = {"prompt": "The capital of France is", "count": 1}


def guarded(run: LiveRun, guard: Guard) -> TestClient:
    return TestClient(create_app(run=run, guard=guard), base_url=f"http://{HOST}", follow_redirects=False)


# --- Host and Origin --------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost:8321", "127.0.0.1:80", "[::1]:8321", "LOCALHOST", "127.0.0.1"])
def test_the_loopback_names_are_known(host: str, client: TestClient) -> None:
    assert client.get("/api/state", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8321",
        "localhost.evil.example",
        "127.0.0.1.evil.example:8321",
        "evil.example#localhost",
        "localhost@evil.example",
        "192.168.1.7:8321",
        "[::1",
        "[::1]x",
        "[::1]:8321:9",
        "[v1.x]",
        "localhost:x",
        "localhost:123456",
        "localhost:",
        "localhost\t",
        b"localhost:\xb2",
        b"loc\xe4lhost",
        b"\xff\xfe",
        "",
        "2130706433",
    ],
)
def test_another_name_is_refused(host: str | bytes, client: TestClient) -> None:
    """A page elsewhere may make its own name point here (DNS rebinding)."""
    for path in ("/", "/api/state", "/api/files/0"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == 403
        assert answer.json()["detail"].startswith("this server does not go by that name")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost:3000",
        "http://127.0.0.1:8321",
        "http://localhost:8321.evil.example",
        "file://",
        "chrome-extension://abc",
        "ftp://localhost:8321",
        "http://[",
        "http://]",
        "http://[::1",
        "http://[v1.]",
        "http://localhost:x",
        "http://localhost:8321/",
        b"http://\xff\xe2\x84\x80",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_another_origin_is_refused(origin: str | bytes, method: str, client: TestClient) -> None:
    path = {"GET": "/api/state", "POST": "/api/continuations", "DELETE": "/api/traces/x"}[method]
    body = QUESTION if method == "POST" else None
    answer = client.request(method, path, json=body, headers={"origin": origin})
    assert answer.status_code == 403
    assert answer.json()["detail"] == "requests from another site are not answered"


def test_the_same_origin_is_answered(client: TestClient) -> None:
    headers = {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}
    assert client.post("/api/continuations", json=QUESTION, headers=headers).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_another_page_loads_is_refused(site: str, client: TestClient) -> None:
    """Without an Origin header, as scripts, images and forms of other pages are fetched."""
    embedded = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
    followed = {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}
    assert client.get("/api/state", headers=embedded).status_code == 403
    assert client.get("/", headers=embedded).status_code == 403
    assert client.get("/api/state", headers=followed).status_code == 403
    assert client.get("/", headers=followed).status_code in (200, 404), "a link to the page may be followed"


def test_nothing_is_said_to_other_origins(client: TestClient) -> None:
    preflight = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert client.options("/api/continuations", headers=preflight).status_code == 405
    for answer in (client.get("/api/state"), client.get("/"), client.options("/", headers=preflight)):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "CONNECT", "PROPFIND"])
def test_other_methods_are_refused(method: str, client: TestClient) -> None:
    assert client.request(method, "/api/state").status_code == 405


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_form_cannot_ask(kind: str, client: TestClient) -> None:
    """These are what a page elsewhere may send without being asked first whether it may."""
    answer = client.post("/api/continuations", content=b'{"prompt": "a"}', headers={"content-type": kind})
    assert answer.status_code == 415


@pytest.mark.parametrize("name", ["host", "origin", "content-length"])
def test_headers_that_matter_come_once(name: str, client: TestClient) -> None:
    good = {"host": HOST, "origin": f"http://{HOST}", "content-length": "0"}[name]
    headers = [("host", HOST)] if name != "host" else []
    answer = client.get("/api/state", headers=[*headers, (name, good), (name, good)])
    assert answer.status_code == 400
    assert answer.json()["detail"] == f"the header '{name}' is given twice"


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("content-length", b"\xb2", 200),  # no number: only what arrives counts
        ("content-length", b"9" * 5000, 413),
        ("content-length", b"0" * 5000, 200),
        ("content-type", b"\xff", 415),
        ("sec-fetch-site", b"\xff", 403),
        ("cookie", b'\xff="\\400"; a', 200),
        ("authorization", b"Bearer \xff", 200),
    ],
)
def test_a_header_of_any_bytes_is_no_error_of_the_server(
    name: str, value: bytes, status: int, client: TestClient
) -> None:
    headers = {b"content-type": b"application/json", name.encode("latin-1"): value}
    assert client.post("/api/continuations", json=QUESTION, headers=headers).status_code == status


# --- token ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_the_loopback_address_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    assert Guard.of(host).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", ""])
def test_any_other_host_needs_a_token(host: str) -> None:
    first, second = Guard.of(host), Guard.of(host)
    assert first.token is not None
    assert second.token is not None
    assert len(first.token) >= 32
    assert first.token != second.token
    assert f"?token={first.token}" in address_of(host, 80, first.token)


@pytest.fixture
def remote(live_run: LiveRun) -> Iterator[tuple[TestClient, str]]:
    """A client of a server that listens beyond the loopback address, and the token."""
    guard = Guard.of("0.0.0.0")
    with guarded(live_run, guard) as client:
        yield client, str(guard.token)


@pytest.mark.parametrize(
    "path", ["/", "/api/state", "/api/files/0", "/api/traces/x", "/main.js", "/?token=", "/?token=x"]
)
def test_nothing_is_answered_without_the_token(path: str, remote: tuple[TestClient, str]) -> None:
    client, _ = remote
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "a token is needed: open the address that 'proponent view' printed"}
    assert client.post("/api/continuations", json=QUESTION).status_code == 401
    assert client.delete("/api/traces/x").status_code == 401


def test_the_address_trades_the_token_for_a_cookie(remote: tuple[TestClient, str]) -> None:
    client, token = remote
    assert client.get(f"/api/state?token={token}").status_code == 401, "at the page's address only"
    answer = client.get(f"/?token={token}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    assert answer.headers["set-cookie"].endswith("; Path=/; HttpOnly; SameSite=Lax")
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert client.get("/api/state").status_code == 200, "the client keeps the cookie"
    assert client.post("/api/continuations", json=QUESTION).status_code == 200
    crossed = client.post("/api/continuations", json=QUESTION, headers={"origin": "https://evil.example"})
    assert crossed.status_code == 403, "a cookie is no leave for other sites"


def test_programs_give_the_token_in_a_header(remote: tuple[TestClient, str]) -> None:
    client, token = remote
    assert client.get("/api/state", headers={"authorization": f"Bearer {token}"}).status_code == 200
    for wrong in (f"Bearer {token}x", f"Bearer {token[:-1]}", f"Basic {token}", token, "Bearer ", "Bearer é"):
        assert client.get("/api/state", headers={"authorization": wrong.encode()}).status_code == 401


def test_a_cookie_of_another_server_is_no_leave(remote: tuple[TestClient, str]) -> None:
    client, token = remote
    other = Guard.of("0.0.0.0")
    assert client.get("/api/state", headers={"cookie": f"{other.cookie}={other.token}"}).status_code == 401
    assert client.get("/api/state", headers={"cookie": f"proponent={token}"}).status_code == 401


def test_beyond_loopback_any_address_is_known_but_no_name(
    remote: tuple[TestClient, str],
) -> None:
    client, token = remote
    leave = {"authorization": f"Bearer {token}"}
    for host in ("192.168.1.7:8321", "[fe80::1]:8321", "localhost:8321"):
        assert client.get("/api/state", headers={**leave, "host": host}).status_code == 200, host
    assert client.get("/api/state", headers={**leave, "host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", "nul\0", "no.such.host.invalid"])
def test_a_host_that_cannot_be_bound_to_is_one_line(host: str) -> None:
    with pytest.raises(InputError, match="give an address of this machine"):
        bound(host, 0)


# --- what the browser may do ------------------------------------------------------------------------


def test_every_answer_carries_the_policy(client: TestClient, remote: tuple[TestClient, str]) -> None:
    answers = [
        client.get("/"),
        client.get("/api/state"),
        client.get("/api/files/0"),
        client.get("/nothing"),
        client.get("/", headers={"host": "evil.example"}),
        client.post("/api/traces", json={}),
        remote[0].get("/"),
        remote[0].get(f"/?token={remote[1]}"),
    ]
    assert {answer.status_code for answer in answers} >= {200, 404, 403, 400, 401, 303}
    for answer in answers:
        assert answer.headers["content-security-policy"] == CONTENT_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"


def test_the_policy_lets_nothing_in() -> None:
    rules = dict(rule.split(" ", 1) for rule in CONTENT_POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in CONTENT_POLICY
    assert "http" not in CONTENT_POLICY


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"])
def test_the_framework_shows_no_pages_of_its_own(path: str, client: TestClient) -> None:
    assert client.get(path).status_code == 404


# --- size -------------------------------------------------------------------------------------------


def test_a_large_body_is_refused_before_it_is_read(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post("/api/continuations", content=b'"' + b"x" * 2**16, headers=headers)
    assert answer.status_code == 413
    claimed = client.post(
        "/api/continuations", content=b"{}", headers={**headers, "content-length": "99999999"}
    )
    assert claimed.status_code == 413

    def chunks() -> Iterator[bytes]:
        yield from [b" " * 2**15] * 4

    assert client.post("/api/continuations", content=chunks(), headers=headers).status_code == 413
