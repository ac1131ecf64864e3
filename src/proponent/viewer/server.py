"""The server of the viewer: one socket, one address to open, and a browser where there is a screen."""

from __future__ import annotations

import os
import socket
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from threading import Timer
from typing import TYPE_CHECKING, Any

from proponent.corpus.queries import Queries
from proponent.errors import InputError
from proponent.index.run import Index
from proponent.progress import Progress

if TYPE_CHECKING:
    from proponent.viewer.live import LiveRun


@dataclass(frozen=True)
class Serving:
    """What a server shows and where: result files, and a run for live tracing with the queries of its task.

    ray: address of a cluster whose workers hold the run's shards, or ``local``; None to read them here.
    port: 0 takes any that is free.  seconds: that a request may take.  browser: whether to open one.
    remote: whether the page may load files by their address.
    """

    files: tuple[str, ...] = ()
    run: str | None = None
    task: str | None = None
    device: str | None = None
    ray: str | None = None
    host: str = "127.0.0.1"
    port: int = 8321
    seconds: float = 300.0
    browser: bool = True
    remote: bool = False


def serve(serving: Serving, progress: Progress) -> None:
    """Show result files and trace live until interrupted; the address is printed on stdout.

    Raises InputError for files, a run, a task, a host or a port that cannot be used, and where the packages
    of the extra ``viewer`` are missing.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise InputError("the viewer needs FastAPI; install it: pip install 'proponent[viewer]'") from error
    from proponent.viewer.app import create_app
    from proponent.viewer.results import open_results
    from proponent.viewer.security import Guard

    files, stdout = open_results(serving.files), sys.stdout  # which Ray's lines are kept off
    with bound(serving.host, serving.port) as listening, opened(serving, progress) as run:
        guard = replace(Guard.of(serving.host), remote=serving.remote)
        app = create_app(files, run, guard, serving.seconds)
        address = address_of(serving.host, listening.getsockname()[1], guard.token)
        print(address, file=stdout, flush=True)
        if guard.token is not None:
            progress.say("whoever has this address can do what you can; the connection is not encrypted")
        progress.say("press Ctrl-C to end")
        if serving.browser and has_screen():
            Timer(0.5, webbrowser.open, (address,)).start()
        quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
        config = uvicorn.Config(app, proxy_headers=False, ws="none", timeout_graceful_shutdown=2, **quiet)
        uvicorn.Server(config).run(sockets=[listening])


@contextmanager
def opened(serving: Serving, progress: Progress) -> Iterator[LiveRun | None]:
    """The run with its model, if there is one; workers on Ray hold its shards until the block ends."""
    from proponent.attribute.sharded import searching_on_ray
    from proponent.viewer.live import LiveRun

    if serving.run is None:
        yield None
        return
    task, index = Queries.read(serving.task) if serving.task else None, Index(serving.run)
    workers = searching_on_ray(index, serving.ray, progress) if serving.ray else nullcontext()
    with workers as shards:
        yield LiveRun(index, task, serving.device, progress, shards)


def bound(host: str, port: int) -> socket.socket:
    """A listening socket; InputError where there can be none."""
    if not 0 <= port <= 65535:
        raise InputError(f"port {port}: give a number from 0 (any free port) to 65535")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError) as error:  # ValueError: no name of a host can be written like this
        cause = error.strerror if isinstance(error, OSError) else "not a host name"
        raise InputError(f"host '{host}': {cause}; give an address of this machine") from error
    family, *_, place = found[0]
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # '::' takes IPv4 as well
    try:
        return socket.create_server(place, family=family, dualstack_ipv6=both)
    except OSError as error:
        cause, remedy = os.strerror(error.errno or 0), "give another --port, or 0 for any that is free"
        raise InputError(f"host '{host}', port {port}: {cause}; {remedy}") from error


def address_of(host: str, port: int, token: str | None) -> str:
    """The address to open in a browser."""
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={token}" if token is not None else "")


def has_screen() -> bool:
    """Whether a browser would open a window; one that runs in the terminal would take it over."""
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("win32", "darwin") or any(map(os.environ.get, displays))
