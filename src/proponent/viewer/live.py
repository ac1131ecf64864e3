"""A run that is open for tracing, as the page sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from proponent.attribute.continuations import Continuation, Continuer
from proponent.attribute.live import LiveTracer, Ranking, Traced
from proponent.attribute.sharded import Shards
from proponent.corpus.example import Query
from proponent.corpus.queries import Queries
from proponent.errors import InputError
from proponent.index.run import Index, RunName
from proponent.progress import Progress
from proponent.remote import is_url

EXAMPLES = 8
MOST_PASSAGES = 100
TRACES_BYTES = 2**28  # that all traces together may take in memory


class LiveRun:
    """A run with its model, loaded once, with the arguments of ``LiveTracer``."""

    def __init__(
        self,
        run: Index | RunName,
        task: Queries | None,
        device: str | None = None,
        progress: Progress | None = None,
        shards: Shards | None = None,
    ) -> None:
        self._live = LiveTracer(run, task, device, progress, shards)
        self.tracer = self._live.tracer
        folder = self.tracer.index.folder
        self.name = _short(Path(folder.name) if is_url(folder.name) else folder.path.resolve())
        self._continuer = Continuer(self.tracer.model)
        self._known = {(q.prompt.strip(), q.target.strip()): q for q in task or ()}
        self._most = min(MOST_PASSAGES, len(self.tracer.index))

    @property
    def keeps(self) -> int:
        """How many traces there is memory for, at least 1."""
        return max(1, TRACES_BYTES // (4 * 3 * len(self._live.outputs) * len(self.tracer.index)))

    def facts(self) -> dict[str, Any]:
        """What the page has to know of the run, as plain values."""
        methods, mixes, known = self._live.methods.values(), self._live.mixes, list(self._known)
        step = max(1, -(-len(known) // EXAMPLES))  # evenly from the first to the last
        return {
            "name": self.name,
            "model": _short(Path(self.tracer.spec.model)),
            "passages": len(self.tracer.index),
            "dim": self.tracer.index.dim,
            "methods": [m.name for m in methods],
            "mixed_methods": [m.name for m in methods if m.output in mixes and m.hessian == "mixed"],
            "task": bool(mixes),
            "task_queries": len(self._known),
            "mix_default": next((mix.mix for mix in mixes.values()), None),
            "k_max": self._most,
            "examples": [{"prompt": p, "target": t} for p, t in known[::step]],
        }

    def continuations(self, prompt: str, count: int, progress: Progress) -> list[Continuation]:
        """The likeliest words or names after a prompt; see ``Continuer``."""
        return self._continuer(prompt, count, self.tracer.spec.max_length, progress)

    def check(self, ranking: Ranking) -> None:
        """Raise InputError for a ranking that this run cannot give, before any work is done."""
        if ranking.k > self._most:
            raise InputError(f"k is {ranking.k}; give 1 to {self._most}")
        self._live.check(ranking)

    def trace(self, prompt: str, target: str, progress: Progress) -> Traced:
        """Trace a query; one of the task keeps its other fields, so that gold passages are marked."""
        query = self._known.get((prompt.strip(), target.strip())) or Query("live", prompt, target)
        return self._live.trace(query, progress)

    def rank(self, traced: Traced, ranking: Ranking, progress: Progress) -> dict[str, Any]:
        """One line of a result file, with ``probability``; see ``LiveTracer.rank``."""
        hits = self._live.rank(traced, ranking, progress)
        return {**next(hits.records()), "probability": traced.probability}


def _short(path: Path) -> str:
    """The name of a folder with that of the one it is in; a hub id has no more."""
    return "/".join(path.parts[-2:])
