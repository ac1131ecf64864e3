"""A run open for live tracing: continuations, traces, and rankings that need no pass of the model.

What rankings need of the passages is held in memory where it fits, and of a query after its trace: then
another method or λ needs no scan of the index, either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from proponent.attribute.continuations import Continuation, Continuer
from proponent.attribute.method import METHODS, Method
from proponent.attribute.probability import target_probabilities
from proponent.attribute.tracing import Tracer, told
from proponent.corpus.example import Query
from proponent.corpus.queries import Queries, require_both_sides
from proponent.errors import InputError
from proponent.index.mix import TaskMix
from proponent.index.rescoring import Ground, Met, best, rescored
from proponent.index.run import Index
from proponent.progress import Progress, Silent

EXAMPLES = 8
MOST_PASSAGES = 100
# Bytes that the passages' places along a task's directions may take in memory, and all traces together.
GROUND_BYTES, TRACES_BYTES = 2**30, 2**28


@dataclass(frozen=True)
class Wanted:
    """How a trace is ranked.

    method: one of the run's.  mix: λ in [0, 1), ``auto``, or None for R_train alone.
    k: proponents, and as many opponents, at least 1.
    """

    method: str
    mix: float | str | None
    k: int


@dataclass(frozen=True)
class Traced:
    """A query that the model was asked about, with all that rankings need of the model.

    features: φ [1, d] of each output function, and met: what the query has to do with all passages.
    probability: of the target, given the prompt.
    """

    query: Query
    features: Mapping[str, Tensor]
    met: Mapping[str, Met]
    probability: float


class LiveRun:
    """A run with its model, loaded once.

    task: queries whose shared directions the task mix takes out; without them there is no mix.
    Raises InputError for a run, model or task that cannot be used.
    """

    def __init__(
        self,
        run: Path,
        task: Queries | None = None,
        device: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        progress = progress or Silent()
        index = Index(run)
        progress.say(f"loading the model of {run}")
        self.tracer = Tracer(index, device)
        self.name = _short(run.resolve())
        corrected = self.tracer.spec.second_moment != "none"
        fitting = (
            {"yes": True, "no": False}.get(m.second_moment, corrected) == corrected for m in METHODS.values()
        )
        self.methods = {m.name: m for m, fits in zip(METHODS.values(), fitting, strict=True) if fits}
        self._continuer = Continuer(self.tracer.model)
        self._known = {(q.prompt.strip(), q.target.strip()): q for q in task or ()}
        self._mixes = self._task_mixes(task, progress) if task else {}
        self._grounds = self._stand(progress)

    @property
    def keeps(self) -> int:
        """How many traces there is memory for, at least 1."""
        numbers = 3 * len(self._outputs) * len(self.tracer.index)
        return max(1, TRACES_BYTES // (4 * numbers))

    @property
    def _outputs(self) -> list[str]:
        return list(dict.fromkeys(method.output for method in self.methods.values()))

    def _stand(self, progress: Progress) -> dict[str, Ground]:
        """The ground of each output function: without its task where that would not fit."""
        grounds = {}
        for output in self._outputs:
            task = self._mixes.get(output)
            directions = len(task.strengths) if task else 0
            fits = 4 * directions * len(self.tracer.index) <= GROUND_BYTES
            with progress.stage("reading the index", len(self.tracer.index), "passages") as advance:
                pieces = told(self.tracer.index.pieces(), advance)
                grounds[output] = Ground.of(pieces, task if fits else None)
        return grounds

    def _task_mixes(self, task: Queries, progress: Progress) -> dict[str, TaskMix]:
        """The automatic task mix of each output function that a method with a mix differentiates."""
        progress.say(f"asking the model about the {len(task):,} queries of the task")
        outputs = dict.fromkeys(m.output for m in self.methods.values() if m.hessian == "mixed")
        return {output: self.tracer.task_mix(task, "auto", output) for output in outputs}

    def facts(self) -> dict[str, Any]:
        """What the page has to know of the run, as plain values."""
        return {
            "name": self.name,
            "model": _short(Path(self.tracer.spec.model)),
            "passages": len(self.tracer.index),
            "dim": self.tracer.index.dim,
            "methods": list(self.methods),
            "mixed_methods": [
                m.name for m in self.methods.values() if m.output in self._mixes and m.hessian == "mixed"
            ],
            "task": bool(self._mixes),
            "task_queries": len(self._known),
            "mix_default": next((mix.mix for mix in self._mixes.values()), None),
            "k_max": min(MOST_PASSAGES, len(self.tracer.index)),
            "examples": [{"prompt": p, "target": t} for p, t in _spread(list(self._known), EXAMPLES)],
        }

    def continuations(self, prompt: str, count: int, progress: Progress) -> list[Continuation]:
        """The likeliest words or names after a prompt; see ``Continuer``."""
        return self._continuer(prompt, count, self.tracer.spec.max_length, progress)

    def check(self, wanted: Wanted) -> None:
        """Raise InputError for a ranking that this run cannot give, before any work is done."""
        if wanted.method not in self.methods:
            raise InputError(
                f"no method '{wanted.method}' for this run; choose one of {', '.join(self.methods)}"
            )
        most = min(MOST_PASSAGES, len(self.tracer.index))
        if not 1 <= wanted.k <= most:
            raise InputError(f"k is {wanted.k}; give 1 to {most}")
        if isinstance(wanted.mix, float) and not 0 <= wanted.mix < 1:
            raise InputError(f"the mix is {wanted.mix}; give a number from 0 up to, not including, 1")
        if wanted.mix and wanted.mix != "auto" and not self._mixes:
            raise InputError("there is no task to mix; start the viewer with --task QUERIES")

    def trace(self, prompt: str, target: str, progress: Progress) -> Traced:
        """Ask the model about a query: its gradients and how probable it finds the target.

        A query of the task keeps its other fields, so that gold passages are told.
        """
        query = self._known.get((prompt.strip(), target.strip())) or Query("live", prompt, target)
        require_both_sides(query)
        tracer = self.tracer
        with progress.stage("asking the model", len(self._outputs) + 1, "passes") as advance:
            encoded = tracer.model.encoder.query(query, tracer.spec.max_length)
            (probability,) = target_probabilities(tracer.model, [encoded], tracer.spec.batch_tokens)
            advance(1)
            features = {}
            for output in self._outputs:
                features[output] = tracer.features([query], output)
                advance(1)
        met = {output: self._meet(found, output, progress) for output, found in features.items()}
        return Traced(query, features, met, probability)

    def _meet(self, features: Tensor, output: str, progress: Progress) -> Met:
        index = self.tracer.index
        with progress.stage("searching", len(index), "passages") as advance:
            return Met.of(told(index.pieces(), advance), features, index.factors, self._grounds[output].task)

    def rank(self, traced: Traced, wanted: Wanted, progress: Progress) -> dict[str, Any]:
        """One line of a result file, with ``probability``: no pass of the model.

        It needs a scan of the index only where the ground of a task did not fit into memory.
        """
        self.check(wanted)
        method = self.methods[wanted.method]
        mix = self._mix(method, wanted.mix)
        ground, query = self._grounds[method.output], traced.query
        if mix is not None and ground.task is None:
            hits = self.tracer.rank([query], traced.features[method.output], method, wanted.k, mix, progress)
        else:
            hessian = "mixed" if mix is not None else "none" if method.hessian == "none" else "train"
            weight = mix.mix if mix is not None else 0.0
            scores = rescored(ground, traced.met[method.output], hessian, weight, method.unit_norm)
            hits = self.tracer.attribution([query], best(scores, wanted.k), method, mix)
        return {**next(hits.records()), "probability": traced.probability}

    def _mix(self, method: Method, mix: float | str | None) -> TaskMix | None:
        if method.hessian != "mixed" or mix is None or method.output not in self._mixes:
            return None
        automatic = self._mixes[method.output]
        return automatic if mix == "auto" else replace(automatic, mix=float(mix))


def _short(path: Path) -> str:
    """The name of a folder with that of the one it is in; a hub id has no more."""
    return "/".join(path.parts[-2:])


def _spread(items: Sequence[Any], wanted: int) -> list[Any]:
    """At most so many of the items, evenly from the first to the last."""
    step = max(1, -(-len(items) // wanted))
    return list(items[::step])
