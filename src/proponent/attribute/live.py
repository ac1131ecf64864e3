"""A run open for tracing again and again: a query that was traced is ranked anew without model or index.

What rankings need of the passages is held in memory where it fits, and of a query after its trace: then
another method or λ needs no scan of the index, either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from proponent.attribute.attribution import Attribution
from proponent.attribute.method import METHODS, Method
from proponent.attribute.probability import target_probabilities
from proponent.attribute.questions import checked_mix
from proponent.attribute.sharded import Shards
from proponent.attribute.tracing import Tracer
from proponent.corpus.example import Query
from proponent.corpus.queries import Queries, require_both_sides
from proponent.errors import InputError
from proponent.index.mix import TaskMix
from proponent.index.remembered import Each, Remembered, all_terms
from proponent.index.run import Index, RunName
from proponent.index.scores import PassageTerms, QueryTerms
from proponent.index.search import best
from proponent.progress import Progress, Silent

# Bytes that the passages' coordinates along a task's directions may take in memory.
TASK_BYTES = 2**30


@dataclass(frozen=True)
class Ranking:
    """How a traced query is ranked.

    method: one of the run's.  mix: λ in [0, 1), ``auto``, or None for R_train alone.
    k: proponents, and as many opponents, at least 1.
    """

    method: str
    mix: float | str | None
    k: int


@dataclass(frozen=True)
class Traced:
    """A query with all that rankings need of the model and of the index, by output function.

    probability: of the target, given the prompt.
    """

    query: Query
    remembered: Mapping[str, Remembered]
    probability: float


class LiveTracer:
    """A run with its model, loaded once.

    task: queries whose shared directions the task mix takes out; without them there is no mix.
    shards: of the run; see ``Tracer``.
    Raises InputError for a run, model or task that cannot be used.
    """

    def __init__(
        self,
        run: Index | RunName,
        task: Queries | None,
        device: str | None,
        progress: Progress | None,
        shards: Shards | None = None,
    ) -> None:
        progress = progress or Silent()
        index = run if isinstance(run, Index) else Index(run)
        progress.say(f"loading the model of {index.folder.name}")
        self.tracer = Tracer(index, device, shards=shards)
        self.methods = {m.name: m for m in METHODS.values() if m.fits(index.spec) and m.projected}
        # output functions that the methods differentiate
        self.outputs = list(dict.fromkeys(method.output for method in self.methods.values()))
        self.mixes: dict[str, TaskMix] = {}  # the automatic one of each output function that has a mix
        if task:
            progress.say(f"gradients of the {len(task):,} queries of the task")
            mixed = dict.fromkeys(m.output for m in self.methods.values() if m.hessian == "mixed")
            self.mixes = {output: self.tracer.task_mix(task, "auto", output) for output in mixed}
        self._passages = {output: self._terms(output, progress) for output in self.outputs}

    def _terms(self, output: str, progress: Progress) -> PassageTerms:
        """All passages' terms for an output function: without its task where that would not fit."""
        index = self.tracer.index
        subspace = self.mixes[output].subspace if output in self.mixes else None
        if subspace is not None and 4 * len(subspace.strengths) * len(index) > TASK_BYTES:
            subspace = None
        return all_terms(self._each("reading the index", progress), subspace)

    def _each(self, stage: str, progress: Progress) -> Each:
        return partial(self.tracer.shards.each, stage=stage, progress=progress)

    def check(self, ranking: Ranking) -> None:
        """Raise InputError for a ranking that this run cannot give, before any work is done."""
        if ranking.method not in self.methods:
            raise InputError(
                f"no method '{ranking.method}' for this run; choose one of {', '.join(self.methods)}"
            )
        if not 1 <= ranking.k <= len(self.tracer.index):
            raise InputError(f"k is {ranking.k}; give 1 to {len(self.tracer.index)}")
        if ranking.mix not in (None, "auto"):
            checked_mix(ranking.mix)
        if ranking.mix and ranking.mix != "auto" and not self.mixes:
            raise InputError("there is no task to mix; start the viewer with --task QUERIES")

    def trace(self, query: Query, progress: Progress) -> Traced:
        """A query's gradients, its target's probability, and its products with all passages."""
        require_both_sides(query)
        tracer, whitening = self.tracer, self.tracer.index.whitening
        with progress.stage("running the model", len(self.outputs) + 1, "passes") as advance:
            encoded = tracer.model.encoder.query(query, tracer.spec.max_length)
            (probability,) = target_probabilities(tracer.model, [encoded], tracer.spec.batch_tokens)
            advance(1)
            terms = {}
            for output in self.outputs:
                mix = self.mixes.get(output)
                features = tracer.features([query], output)
                terms[output] = QueryTerms(features, whitening, mix.subspace if mix else None)
                advance(1)
        each = self._each("searching", progress)
        remembered = {output: Remembered.of(each, found) for output, found in terms.items()}
        return Traced(query, remembered, probability)

    def rank(self, traced: Traced, ranking: Ranking, progress: Progress) -> Attribution:
        """The ranking of a traced query: no pass of the model.

        It needs a scan of the index only where the coordinates along a task did not fit into memory.
        """
        self.check(ranking)
        method = self.methods[ranking.method]
        mix, query = self._mix(method, ranking.mix), traced.remembered[method.output]
        passages = self._passages[method.output]
        if mix is not None and not len(passages.beyond):
            return self.tracer.rank([traced.query], query.query.features, method, ranking.k, mix, progress)
        scores = query.scores(method.inner_product(mix), passages)
        return self.tracer.attribution([traced.query], best(scores, ranking.k), method, mix)

    def _mix(self, method: Method, mix: float | str | None) -> TaskMix | None:
        if method.hessian != "mixed" or mix is None or method.output not in self.mixes:
            return None
        automatic = self.mixes[method.output]
        return automatic if mix == "auto" else replace(automatic, mix=float(mix))
