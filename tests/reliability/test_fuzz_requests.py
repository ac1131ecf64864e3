"""Malformed requests to a live server: answered below 500, in one line, and the server goes on."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient
from tests.models import make_model
from tests.reliability.kinds import GROWTH, SECONDS, bounded, peak
from tests.reliability.mutations import malformed, mutated
from tests.runs import CORPUS, QUERIES, small_spec
from tests.viewer.live.driving import serving

import proponent as pp
from proponent.viewer.app import create_app
from proponent.viewer.live import LiveRun

FEW, MANY = 40, 5000
BODY = json.dumps({"prompt": "a", "target": "b", "method": "trackstar", "mix": "auto", "k": 4}).encode()
REQUEST = (
    b"POST /api/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: " + str(len(BODY)).encode() + b"\r\n\r\n" + BODY
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> LiveRun:
    folder = tmp_path_factory.mktemp("live")
    spec = small_spec(make_model(folder / "model"))
    pp.build_index(CORPUS, spec, folder / "run", "cpu")
    return LiveRun(folder / "run", pp.Queries(QUERIES), "cpu")


def fuzz_application(live: LiveRun, times: int, first: int = 0) -> int:
    """Send so many malformed requests to the application; each is answered with a status below 500."""
    refused, before = 0, peak()
    with TestClient(create_app(run=live), base_url="http://localhost:8321") as client:
        for seed in range(first, first + times):
            chosen = random.Random(seed)
            path = mutated(b"/api/traces/abc/rerank", chosen) if seed % 4 == 0 else b"/api/traces"
            address = "/" + "".join(f"%{byte:02x}" for byte in path.lstrip(b"/")[:4000])
            header = mutated(b"application/json", chosen) if seed % 3 == 0 else b"application/json"
            headers: dict[str, Any] = {"content-type": header.replace(b"\r", b"").replace(b"\n", b"")}
            method = chosen.choice(("POST", "POST", "GET", "DELETE", "PUT"))
            content = malformed(BODY, seed, lines_of_json=True)[: 2**17]
            with bounded():
                answer = client.request(method, address, content=content, headers=headers)
            assert answer.status_code < 500, (seed, answer.text)
            assert answer.status_code < 400 or "\n" not in answer.text, (seed, answer.text)
            refused += answer.status_code >= 400
    assert peak() - before < GROWTH
    return refused


def test_requests(live: LiveRun) -> None:
    assert fuzz_application(live, FEW) > FEW / 2


@pytest.mark.slow
def test_many_requests(live: LiveRun) -> None:
    print(f"requests: {fuzz_application(live, MANY, first=FEW)} of {MANY} refused")


def answered(place: tuple[str, int], sent: bytes) -> bytes:
    """What a server says to some bytes, to whose end the connection is then shut."""
    with socket.create_connection(place, timeout=SECONDS) as connection:
        found = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(2**16):
                found += part
        except (BrokenPipeError, ConnectionResetError):
            pass  # it had enough
        return found


def fuzz_connections(live: LiveRun, times: int, first: int = 0) -> int:
    """Send so many malformed requests byte by byte to a real server; then it still answers a sound one."""
    refused, before = 0, peak()
    with serving(run=live) as address:
        place = ("127.0.0.1", int(urlsplit(address).port or 0))
        for seed in range(first, first + times):
            found = answered(place, mutated(REQUEST, random.Random(seed)))
            status = found.split(b" ", 2)[1:2]
            assert not found or (status and status[0].isdigit()), (seed, found[:200])
            assert not status or int(status[0]) < 500, (seed, found[:200])
            refused += not status or int(status[0]) >= 400
        assert answered(place, REQUEST).startswith(b"HTTP/1.1 202")
    assert peak() - before < GROWTH
    return refused


def test_connections(live: LiveRun) -> None:
    assert fuzz_connections(live, FEW) > FEW / 2


@pytest.mark.slow
def test_many_connections(live: LiveRun, tmp_path: Path) -> None:
    print(f"connections: {fuzz_connections(live, MANY // 2, first=FEW)} of {MANY // 2} refused")
