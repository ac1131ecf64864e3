"""Which requests are answered, and what browsers may do with the answers: checked before any other code.

Any web page open in the same browser can send requests to the loopback address, or make its own name point
there.  So Host and Origin must be this server's; beyond the loopback address a token is needed as well.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::[0-9]{1,5})?", re.ASCII)  # a name or address, a port
METHODS = ("GET", "HEAD", "POST", "DELETE")
# Headers that are checked here, and so must not be given twice.
ONCE = ("host", "origin", "sec-fetch-site", "authorization", "content-type", "content-length")
BODY_BYTES, BODY_SECONDS = 2**16, 10.0
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

    hosts: names that the Host header may have, without port; with a token, any IP address as well.
    token: of a cookie or an Authorization header, None for none.
    remote: whether the page's browser may fetch files of other sites; the server itself never does.
    """

    hosts: frozenset[str] = LOOPBACK_NAMES
    token: str | None = None
    remote: bool = False

    @classmethod
    def of(cls, host: str) -> Guard:
        """The guard of a server bound to a host: beyond the loopback address, with a new token."""
        if is_loopback(host):
            return cls(LOOPBACK_NAMES | {host})
        names = {host, socket.gethostname(), socket.getfqdn()}
        return cls(LOOPBACK_NAMES | {name.lower() for name in names}, secrets.token_urlsafe(24))

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
            return self.token is not None and bool(ipaddress.ip_address(name))
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


def guarded(app: ASGIApp, guard: Guard) -> ASGIApp:
    """An application behind a guard, which answers or refuses; every answer carries the security headers."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
        if scope["type"] != "http":
            return  # a websocket: closed by the server when nothing accepts it
        request, answering = Request(scope, receive), app
        try:
            _check_site(request, guard)
            if guard.token is None or _has_token(request, guard):
                receive = await _whole_body(request)
            else:
                answering = _admission(request, guard)
        except HTTPException as refused:
            answering = JSONResponse({"detail": refused.detail}, refused.status_code)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(guard.headers)
            await send(message)

        await answering(scope, receive, sending)

    return answer


def _check_site(request: Request, guard: Guard) -> None:
    """Raise HTTPException for a request that another site could have made a browser send."""
    headers, method, host = request.headers, request.method, request.headers.get("host", "").lower()
    for name in ONCE:
        if len(headers.getlist(name)) > 1:
            raise HTTPException(400, f"the header '{name}' is given twice")
    if method not in METHODS:
        raise HTTPException(405, f"the method {method} is not used here")
    if not guard.knows_host(host):
        raise HTTPException(403, "this server does not go by that name; use the address that it printed")
    origin, site = headers.get("origin", f"http://{host}").lower(), headers.get("sec-fetch-site", "none")
    opens_page = method == "GET" and request.scope["path"] == "/"
    navigates = opens_page and headers.get("sec-fetch-mode") == "navigate"
    other_site = site not in ("same-origin", "none") and not navigates
    if other_site or origin not in (f"http://{host}", f"https://{host}"):
        raise HTTPException(403, "requests from another site are not answered")
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if method == "POST" and kind != "application/json":
        raise HTTPException(415, "send JSON, with the content type application/json")


def _has_token(request: Request, guard: Guard) -> bool:
    scheme, _, offered = request.headers.get("authorization", "").partition(" ")
    in_header = scheme.lower() == "bearer" and guard.is_token(offered.strip())
    return in_header or guard.is_token(request.cookies.get(guard.cookie, ""))


def _admission(request: Request, guard: Guard) -> RedirectResponse:
    """Trade the token in the printed address for a cookie, so that it does not stay in the address."""
    offered = request.query_params.get("token", "")
    if request.scope["path"] != "/" or request.method != "GET" or not guard.is_token(offered):
        raise HTTPException(401, "a token is needed: open the address that 'proponent view' printed")
    cookie = f"{guard.cookie}={guard.token}; Path=/; HttpOnly; SameSite=Lax"
    return RedirectResponse("/", 303, {"set-cookie": cookie})


async def _whole_body(request: Request) -> Receive:
    """Read the whole body, within limits of size and time; returns a ``receive`` that yields it."""
    claimed = request.headers.get("content-length", "0").lstrip("0")
    if claimed.isdecimal() and (len(claimed) > len(str(BODY_BYTES)) or int(claimed) > BODY_BYTES):
        raise HTTPException(413, f"the request is longer than {BODY_BYTES} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > BODY_BYTES:
                    raise HTTPException(413, f"the request is longer than {BODY_BYTES} bytes")
    except TimeoutError as error:
        late = f"the request took longer than {BODY_SECONDS:g} seconds to arrive"
        raise HTTPException(408, late) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the request ended before its body") from error
    waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await request.receive()

    return again
