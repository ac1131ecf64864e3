"""Which requests are answered, and what browsers may do with the answers: checked before any other code.

Any web page open in the same browser can send requests to the loopback address, or make its own name point
there.  So Host and Origin must be this server's; beyond the loopback address a token is needed as well.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::[0-9]{1,5})?", re.ASCII)  # a name or address, a port
METHODS = ("GET", "HEAD", "POST", "DELETE")
BODY_SECONDS = 10.0
# The last two: no text becomes markup, whatever a script tries.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
REMOTE = "connect-src 'self' https: http:"  # instead, where the page may fetch files of other sites
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to that host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Guard:
    """What a request must show.

    hosts: names that the Host header may have, without port.  addresses: whether any IP address may be there.
    token: of a cookie or an Authorization header, None for none.  body_limit: bytes of a body.
    remote: whether the page's browser may fetch files of other sites; the server itself never does.
    """

    hosts: frozenset[str] = LOOPBACK_NAMES
    addresses: bool = False
    token: str | None = None
    body_limit: int = 2**16
    remote: bool = False

    @classmethod
    def of(cls, host: str) -> Guard:
        """The guard of a server bound to a host: beyond the loopback address, with a new token."""
        if is_loopback(host):
            return cls(LOOPBACK_NAMES | {host})
        names = {host, socket.gethostname(), socket.getfqdn()}
        return cls(LOOPBACK_NAMES | {name.lower() for name in names}, True, secrets.token_urlsafe(24))

    @property
    def cookie(self) -> str:
        """Name of the cookie; a server on another port is sent this cookie as well, so names differ."""
        return f"proponent-{hashlib.sha256(str(self.token).encode()).hexdigest()[:8]}"

    def knows_host(self, header: str) -> bool:
        """Whether a Host header, in lower case, names this server."""
        parts = HOST.fullmatch(header)
        name = (parts[1] or parts[2]) if parts else ""
        if name in self.hosts:
            return True
        try:
            return self.addresses and bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    @property
    def headers(self) -> dict[str, str]:
        """The security headers of every answer."""
        policy = CONTENT_POLICY.replace("connect-src 'self'", REMOTE) if self.remote else CONTENT_POLICY
        return HEADERS | {"content-security-policy": policy}

    def is_token(self, offered: str) -> bool:
        """Whether this is the token, in constant time."""
        return self.token is not None and secrets.compare_digest(offered.encode(), self.token.encode())


class RefusedError(Exception):
    """A request that is not answered.  status: of the HTTP answer.  detail: one line that says why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class Guarded:
    """An ASGI application behind a guard; every answer carries the security headers."""

    def __init__(self, app: App, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer, or refuse, one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a websocket: closed by the server when nothing accepts it
        send = _with_headers(send, self._guard.headers)
        try:
            headers = _headers(scope)
            _check_site(scope, headers, self._guard)
            if self._guard.token is not None and not _has_token(headers, self._guard):
                await _admit(scope, self._guard, send)
                return
            receive = await _whole_body(headers, receive, self._guard.body_limit)
        except RefusedError as refused:
            await _answer(send, refused.status, {"detail": refused.detail})
            return
        await self._app(scope, receive, send)


def _headers(scope: MutableMapping[str, Any]) -> dict[str, str]:
    """Headers by lower-case name; those that are checked here must not be given twice."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name in found and name in ("host", "origin", "authorization", "content-type", "content-length"):
            raise RefusedError(400, f"the header '{name}' is given twice")
        found[name] = f"{found[name]}; {value}" if name in found else value
    return found


def _check_site(scope: MutableMapping[str, Any], headers: dict[str, str], guard: Guard) -> None:
    """Raise RefusedError for a request that another site could have made a browser send."""
    method, host = scope["method"], headers.get("host", "").lower()
    if method not in METHODS:
        raise RefusedError(405, f"the method {method} is not used here")
    if not guard.knows_host(host):
        raise RefusedError(403, "this server does not go by that name; use the address that it printed")
    origin, site = headers.get("origin", f"http://{host}").lower(), headers.get("sec-fetch-site", "none")
    navigates = method == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
    other_site = site not in ("same-origin", "none") and not navigates
    if other_site or origin not in (f"http://{host}", f"https://{host}"):
        raise RefusedError(403, "requests from another site are not answered")
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if method == "POST" and kind != "application/json":
        raise RefusedError(415, "send JSON, with the content type application/json")


def _has_token(headers: dict[str, str], guard: Guard) -> bool:
    scheme, _, offered = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and guard.is_token(offered.strip()):
        return True
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(guard.cookie)
    except CookieError:
        return False
    return cookie is not None and guard.is_token(cookie.value)


async def _admit(scope: MutableMapping[str, Any], guard: Guard, send: Send) -> None:
    """Trade the token in the printed address for a cookie, so that it does not stay in the address."""
    offered = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
    if scope["path"] != "/" or scope["method"] != "GET" or not guard.is_token(offered):
        raise RefusedError(401, "a token is needed: open the address that 'proponent view' printed")
    cookie = f"{guard.cookie}={guard.token}; Path=/; HttpOnly; SameSite=Lax"
    await _answer(send, 303, {}, **{"location": "/", "set-cookie": cookie})


async def _whole_body(headers: dict[str, str], receive: Receive, limit: int) -> Receive:
    """Read the whole body, within limits of size and time; returns a ``receive`` that yields it."""
    claimed = headers.get("content-length", "0").lstrip("0")
    if claimed.isdecimal() and (len(claimed) > len(str(limit)) or int(claimed) > limit):
        raise RefusedError(413, f"the request is longer than {limit} bytes")
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise RefusedError(400, "the request ended before its body")
                body += message.get("body", b"")
                if len(body) > limit:
                    raise RefusedError(413, f"the request is longer than {limit} bytes")
                more = message.get("more_body", False)
    except TimeoutError as error:
        raise RefusedError(408, f"the request took longer than {BODY_SECONDS:g} seconds to arrive") from error
    waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message.get("headers", []) if pair[0].decode() not in headers]
            message = {**message, "headers": [*kept, *_encoded(headers)]}
        await send(message)

    return sending


async def _answer(send: Send, status: int, content: dict[str, str], **headers: str) -> None:
    body = json.dumps(content).encode()
    lines = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    await send({"type": "http.response.start", "status": status, "headers": _encoded(lines)})
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
