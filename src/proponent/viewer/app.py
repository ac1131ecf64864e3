"""The web application: the page, the result files, and live tracing behind a queue."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from proponent.attribute.live import Ranking
from proponent.errors import InputError
from proponent.viewer.desk import Desk
from proponent.viewer.live import LiveRun
from proponent.viewer.results import ResultFile
from proponent.viewer.security import Guard, guarded
from proponent.viewer.worker import StoppedError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.telemetry import TelemetryConfig

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
STATUS: dict[type[Exception], int] = {InputError: 400, StoppedError: 409}
STREAM_CHARACTERS = 2**18

Text = Annotated[str, Field(min_length=1, max_length=8000)]
Mix = Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] | None


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AskContinuations(_Body):
    """Body of a request for continuations."""

    prompt: Text
    count: Annotated[int, Field(ge=1, le=20)] = 8


class AskRanking(_Body):
    """Body of a request to rank a trace again."""

    method: Annotated[str, Field(max_length=100)]
    mix: Mix = None
    k: Annotated[int, Field(ge=1)] = 10

    def wanted(self) -> Ranking:
        """The requested ranking."""
        return Ranking(self.method, self.mix, self.k)


class AskTrace(AskRanking):
    """Body of a request to trace."""

    prompt: Text
    target: Text


def create_app(
    files: Sequence[ResultFile] = (),
    run: LiveRun | None = None,
    guard: Guard | None = None,
    seconds: float = 300.0,
) -> ASGIApp:
    """The application of result files and a live run, behind its guard; docs/viewer.md has its addresses.

    seconds: that a request to the run may take.
    """
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError

    desk = Desk(run, seconds) if run is not None else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if desk is not None:
            desk.worker.close()

    # no documentation pages, which load scripts from other sites, and no telemetry
    silent: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan, telemetry=silent)
    app.add_exception_handler(RequestValidationError, _refuse_body)
    for kind in STATUS:
        app.add_exception_handler(kind, _refuse)
    guard = guard or Guard()
    _add_state(app, files, run, guard.remote)
    if desk is not None:
        _add_live(app, desk)
    _add_page(app)
    return guarded(app, guard)


def _add_state(app: FastAPI, files: Sequence[ResultFile], run: LiveRun | None, remote: bool) -> None:
    @app.get("/api/state")
    async def state() -> Response:
        names = [{"name": file.name} for file in files]
        facts = run.facts() if run else None
        return JSONResponse({"files": names, "run": facts, "remote": remote})

    @app.get("/api/files/{number}")
    async def file(number: int) -> Response:
        if not 0 <= number < len(files):
            raise HTTPException(404, f"there is no result file {number}")
        return StreamingResponse(_stream(files[number]), media_type="application/x-ndjson")


def _stream(file: ResultFile) -> Iterator[bytes]:
    """The lines of a file, many at a time; a bad line ends them with a record of the error.

    A lone surrogate, which UTF-8 cannot encode, stays the escape that it was in the file.
    """
    waiting = ""
    try:
        for line in file.lines():
            waiting += f"{line}\n"
            if len(waiting) > STREAM_CHARACTERS:
                yield waiting.encode(errors="backslashreplace")
                waiting = ""
    except InputError as error:
        waiting += json.dumps({"error": str(error)}, ensure_ascii=False) + "\n"
    yield waiting.encode(errors="backslashreplace")


def _add_page(app: FastAPI) -> None:
    """The page's own files, read once at the start: a request names one of them, never a path."""
    page = {
        f"/{file.name}": (file.read_bytes(), TYPES[PurePosixPath(file.name).suffix])
        for file in (resources.files("proponent.viewer") / "page").iterdir()
    }
    page["/"] = page["/index.html"]

    @app.get("/{name:path}")
    async def asset(request: Request) -> Response:
        path = request.scope["path"]
        if path not in page:
            raise HTTPException(404, "there is nothing at this address")
        content, kind = page[path]
        return Response(content, media_type=f"{kind}; charset=utf-8")


def _add_live(app: FastAPI, desk: Desk) -> None:
    @app.post("/api/continuations")
    async def continuations(body: AskContinuations, request: Request) -> Response:
        work = desk.worker.submit(lambda work: desk.run.continuations(body.prompt, body.count, work))
        found = await desk.outcome(request, work)
        return JSONResponse({"continuations": [vars(continuation) for continuation in found]})

    @app.post("/api/traces", status_code=202)
    async def start(body: AskTrace) -> Response:
        return JSONResponse({"id": desk.start(body.prompt, body.target, body.wanted())}, 202)

    @app.get("/api/traces/{id}")
    async def status(id: str) -> Response:
        return JSONResponse(dict(desk.status(id)))

    @app.delete("/api/traces/{id}")
    async def cancel(id: str) -> Response:
        desk.worker.cancel(desk.find(id)[0])
        return JSONResponse(dict(desk.status(id)))

    @app.post("/api/traces/{id}/rerank")
    async def rerank(id: str, body: AskRanking, request: Request) -> Response:
        return JSONResponse({"row": await desk.outcome(request, desk.rank(id, body.wanted()))})


async def _refuse(_: Request, error: Exception) -> Response:
    """One line for a request that cannot be answered."""
    return JSONResponse({"detail": str(error)}, STATUS[type(error)])


async def _refuse_body(_: Request, error: Any) -> Response:
    """One line for a body that does not fit its model."""
    first = error.errors()[0]
    return JSONResponse({"detail": ": ".join(map(str, [*first["loc"][1:2], first["msg"]]))}, 400)
