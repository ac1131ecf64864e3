"""Requests to a live run: the queue, the traces that are kept, and their rankings."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from proponent.attribute.live import Ranking, Traced
from proponent.progress import Progress
from proponent.viewer.live import LiveRun
from proponent.viewer.worker import Work, Worker

WAITING = 32  # requests in the queue
KEPT = 200  # traces that can be ranked again
ABANDONED_SECONDS = 0.25  # how often to check that a waiting client is still connected


class Desk:
    """Queues requests to a run, of so many seconds at most, keeps its traces, and ranks them."""

    def __init__(self, run: LiveRun, seconds: float) -> None:
        self.run, self._kept = run, min(KEPT, run.keeps)
        self.worker = Worker(WAITING, seconds)
        self._traces: OrderedDict[str, tuple[Work, list[Traced]]] = OrderedDict()
        self._ranking: dict[str, Work] = {}

    def start(self, prompt: str, target: str, wanted: Ranking) -> str:
        """Put a trace into the queue; its id."""
        traced: list[Traced] = []
        self.run.check(wanted)

        def job(work: Progress) -> dict[str, Any]:
            traced.append(self.run.trace(prompt, target, work))
            return self.run.rank(traced[0], wanted, work)

        work = self.worker.submit(job)
        self._traces[work.id] = (work, traced)
        for old in [id for id, (made, _) in self._traces.items() if made.over][: -self._kept]:
            del self._traces[old]
            self._ranking.pop(old, None)
        return work.id

    def find(self, id: str) -> tuple[Work, list[Traced]]:
        """A trace that is kept; 404 for any other."""
        if id not in self._traces:
            raise HTTPException(404, "there is no such trace; it may be too long ago")
        return self._traces[id]

    def status(self, id: str) -> Mapping[str, Any]:
        """Progress of a trace, and its row when it is done."""
        work, _ = self.find(id)
        return {
            "state": work.state,
            "position": self.worker.position(work),
            "done": work.done,
            "total": work.total,
            "message": work.message,
            "row": work.outcome.result() if work.state == "done" else None,
        }

    def rank(self, id: str, wanted: Ranking) -> Work:
        """Rank a trace again, before all that waits; this cancels an older ranking of the trace."""
        work, traced = self.find(id)
        self.run.check(wanted)
        if not work.over or not traced:
            raise HTTPException(409, "this trace is not done, so there is nothing to rank")
        if id in self._ranking:
            self.worker.cancel(self._ranking[id])
        ranking = self.worker.submit(lambda work: self.run.rank(traced[0], wanted, work), first=True)
        self._ranking[id] = ranking
        return ranking

    async def outcome(self, request: Request, work: Work) -> Any:
        """The result of work, which is cancelled when its client disconnects."""
        future = asyncio.wrap_future(work.outcome)
        while not (await asyncio.wait({future}, timeout=ABANDONED_SECONDS))[0]:
            if await request.is_disconnected():
                self.worker.cancel(work)
        return future.result()
