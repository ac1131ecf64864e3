"""From queries to their proponents and opponents: one scan of a finished run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import Unpack

import torch
from torch import Tensor

from proponent.attribute.attribution import EXACT_TOP, Attribution, Hit, ScoredPassage
from proponent.attribute.averaged import averaged_attribution, runs_of
from proponent.attribute.certified import certified_attribution
from proponent.attribute.exact import exact_scores
from proponent.attribute.held import nearest_shards
from proponent.attribute.method import Method
from proponent.attribute.questions import (
    QueriesLike,
    Task,
    check_ranking,
    checked_mix,
    checked_questions,
)
from proponent.attribute.refine import More, check_more, refined, retrieved
from proponent.attribute.sharded import Shards, Streamed, searching_on_ray
from proponent.attribute.significance import chances, number_or_none
from proponent.attribute.unprojected import Unprojected, by_factors
from proponent.build.opening import require_same_model
from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import load_model
from proponent.gradients.moments import unpack_moments
from proponent.gradients.projection import unpack_projections
from proponent.gradients.spec import FeatureSpec
from proponent.index.mix import WHITE_MIX, TaskMix, TaskSubspace, automatic_mix, task_eigenvalues
from proponent.index.run import Index, RunName
from proponent.index.scores import QueryScan, QueryTerms
from proponent.index.search import Found, best
from proponent.progress import Progress, Silent

# Queries that share one scan: their vectors take 0.25 MB each at d = 65,536.
SCAN_QUERIES = 1024
# Features of the queries asked last, as many as one scan takes: another λ, damping or method of the same
# queries then needs no pass of the model.
REMEMBERED = SCAN_QUERIES


class Tracer:
    """A finished run with its model loaded, ready for any number of traces.

    trust_remote_code: run Python code that comes with the model; a run that was made so does not imply it.
    shards: of the run; None for those on the model's card, or else in their files; see ``nearest_shards``.
    Raises InputError when the model or tokenizer is not the one that the run was made with.
    """

    def __init__(
        self,
        index: Index | RunName,
        device: str | None = None,
        trust_remote_code: bool = False,
        shards: Shards | None = None,
    ) -> None:
        self.index = index if isinstance(index, Index) else Index(index)
        self.spec = FeatureSpec.from_dict(self.index.spec)
        self._loading = (device, trust_remote_code)
        self.model = load_model(self.spec.model, *self._loading)
        require_same_model(self.index.folder.name, self.index.manifest, self.model)
        self.plan = plan_layers(self.model, self.spec.dim, self.spec.layer_groups)
        self.model.multiply_in(self.spec.dtype)
        self.moments = unpack_moments(self.index.moments)
        self.extract = FeatureExtractor(
            self.model, self.plan, unpack_projections(self.index.sides), self.spec.batch_tokens
        )
        self.shards = shards or nearest_shards(self.index, self.model.device)
        self._unprojected: dict[bool, Unprojected] = {}
        self._known: dict[tuple[str, str, str], Tensor] = {}  # by output function, prompt and target

    def redamped(self, damping: float | str) -> Tracer:
        """The same run and model with another damping of R_train; see ``Index``."""
        other = copy.copy(self)
        other.index = Index(self.index.folder.name, damping)
        other.shards = Streamed(other.index)
        return other

    def features(self, queries: Sequence[Query], output: str = "loss") -> Tensor:
        """Features φ_q [q, d] of queries: gradients of their target tokens, given the prompt.

        Raises InputError for a query whose target would be cut off or whose gradient is not finite.
        """
        asked = [(output, query.prompt, query.target) for query in queries]
        new = {key: query for key, query in zip(asked, queries, strict=True) if key not in self._known}
        found = {key: self._known[key] for key in asked if key in self._known}
        if new:
            found.update(zip(new, self._new_features(list(new.values()), output), strict=True))
        self._known.update(found)
        for oldest in list(self._known)[:-REMEMBERED]:
            del self._known[oldest]
        return torch.stack([found[key] for key in asked])

    def _new_features(self, queries: Sequence[Query], output: str) -> Tensor:
        encoded = [self.model.encoder.query(query, self.spec.max_length) for query in queries]
        features = self.extract([q.tokens for q in encoded], [q.boundary for q in encoded], output)
        for query, finite in zip(queries, features.isfinite().all(1).tolist(), strict=True):
            if not finite:
                raise InputError(f"{query.place}: the model gives no finite gradient for query '{query.id}'")
        return features

    def target_features(self, query: Query, output: str = "loss") -> tuple[list[str], Tensor]:
        """What each target token adds to the text, and the feature φ [j, d] float64 of its own loss.

        They add up to the query's feature to the last digit: what rounding leaves is shared among them, since
        a task mix may weigh it a thousandfold.
        """
        encoded = self.model.encoder.query(query, self.spec.max_length)
        places = range(encoded.boundary, len(encoded.tokens))
        rows = [encoded.tokens[: place + 1] for place in places]
        parts = self.extract(rows, list(places), output).double()
        parts += (self.features([query], output).double() - parts.sum(0)) / len(parts)
        said = self.model.encoder.continued([row[encoded.boundary :] for row in rows])
        # until the last of its bytes, a character of several is a replacement character
        kept = (len(text.rstrip("\ufffd")) if text != said[-1] else len(text) for text in said)
        reach = [0, *accumulate(kept, max)]
        return [said[-1][start:end] for start, end in pairwise(reach)], parts

    def task_mix(self, task: Sequence[Query], mix: float | str, output: str = "loss") -> TaskMix:
        """The task mix of a set of queries; ``mix`` is λ in [0, 1) or ``auto``."""
        features = self.features(task, output)
        if mix == "auto" and self.index.white:
            weight = WHITE_MIX
        elif mix == "auto":
            positive = task_eigenvalues(features, self.index.blocks)
            weight = automatic_mix(self.index.spectrum().flatten(), positive)
        else:
            weight = checked_mix(mix)
        return TaskMix(TaskSubspace.of(features, self.index.whitening), weight)

    def trace(
        self,
        queries: QueriesLike,
        method: Method | str | None = None,
        k: int = 10,
        task: QueriesLike | None = None,
        mix: float | str = "auto",
        progress: Progress | None = None,
        **more: Unpack[More],
    ) -> Attribution:
        """The k proponents and k opponents of every query, in one scan of the index, or of each averaged one.

        queries: Queries, or Query values, or (prompt, target) pairs.  method: a Method or its text; by itself
        trackstar, or kronecker for a run with such moments.
        task: queries that R_eval is taken over, for methods whose Hessian is mixed; without it they use
        R_train.  mix: λ in [0, 1), or ``auto`` to choose it by the eigenvalues' crossing.
        more: tokens, diverse, merge_duplicates, exact_top, certified, within, full, averaged_with; see
        ``More``.
        Raises InputError for queries, method, k, mix or more that cannot be used.
        """
        progress = progress or Silent()
        queries, method, task = checked_questions(self.index, queries, method, k, task, mix)
        more["averaged_with"] = runs_of(more.get("averaged_with") or ())
        check_more(self.index, method, k, task is not None, more)
        for query in chain(queries, task or ()):  # all, before any work; averaged runs share this tokenizer
            self.model.encoder.query(query, self.spec.max_length)
        mixed = Task(task, self.task_mix(task, mix, method.output)) if task else None
        parts = [queries[start : start + SCAN_QUERIES] for start in range(0, len(queries), SCAN_QUERIES)]
        most = retrieved(k, len(self.index), more)
        if more.get("certified") is not None:
            ranked = [certified_attribution(self, queries, method, most, more, progress)]
        elif runs := more.get("averaged_with"):
            ranked = averaged_attribution(self, runs, parts, method, most, mixed, progress)
        else:
            ranked = [self._ranked(part, method, most, mixed, progress) for part in parts]
        hits = list(chain.from_iterable(ranked))
        hits = refined(self, hits, method, mixed, k, more, progress)
        top = more.get("exact_top")
        return Attribution(tuple(hits), {**ranked[0].settings, **({EXACT_TOP: top} if top else {})})

    def beside(self, run: RunName) -> Tracer:
        """Another run, with its model on the same device."""
        return Tracer(run, *self._loading)

    def _ranked(
        self, queries: Sequence[Query], method: Method, k: int, task: Task | None, progress: Progress
    ) -> Attribution:
        mix = task.mix if task else None
        if method.projected:
            return self.rank(queries, self.features(queries, method.output), method, k, mix)
        scores = exact_scores(self, queries, method, range(len(self.index)), progress, task)
        return self.attribution(queries, best(scores.float(), k), method, mix)

    def unprojected(self, method: Method) -> Unprojected:
        """What gives the whole gradients that a method compares; made once and kept."""
        factored = by_factors(self.index, method)
        if factored not in self._unprojected:
            make = Unprojected.with_factors if factored else Unprojected.corrected_as_run
            self._unprojected[factored] = make(self)
        return self._unprojected[factored]

    def rank(
        self,
        queries: Sequence[Query],
        features: Tensor,
        method: Method,
        k: int = 10,
        task_mix: TaskMix | None = None,
        progress: Progress | None = None,
    ) -> Attribution:
        """The same for queries whose features are known: one scan of the index, no pass of the model.

        features: φ_q [q, d] of the method's output function, as ``features`` gives them.  task_mix: for a
        method whose Hessian is mixed.  progress: counts the rows as they are scanned; an error that its
        ``advance`` raises ends the scan.  Raises InputError for a method or k that cannot be used.
        """
        check_ranking(self.index, method, k)
        scan = self.scan(features, method, task_mix)
        found = self.shards.search(scan, k, progress or Silent())
        return self.attribution(queries, found, method, task_mix)

    def scan(self, features: Tensor, method: Method, task_mix: TaskMix | None = None) -> QueryScan:
        """Queries of features φ_q [q, d] ready for a scan of the index."""
        inner = method.inner_product(task_mix)
        return QueryScan(QueryTerms(features, self.index.whitening, inner.subspace), inner)

    def attribution(
        self, queries: Sequence[Query], found: Found, method: Method, task_mix: TaskMix | None = None
    ) -> Attribution:
        """What was found for queries, with the passages' ids and text and how it was found."""
        positions = torch.cat([found.proponent_positions, found.opponent_positions])
        passages = self.index.passages(positions.flatten().tolist())

        def scored(scores: Tensor, rows: Tensor, chance: Tensor) -> tuple[ScoredPassage, ...]:
            columns = zip(scores.tolist(), rows.tolist(), chance.tolist(), strict=True)
            return tuple(
                ScoredPassage(**vars(passages[row]), score=score, row=row, chance=number_or_none(by_chance))
                for score, row, by_chance in columns
            )

        above, below = chances(found, len(self.index))
        hits = tuple(
            Hit(
                query,
                scored(found.proponent_scores[n], found.proponent_positions[n], above[n]),
                scored(found.opponent_scores[n], found.opponent_positions[n], below[n]),
            )
            for n, query in enumerate(queries)
        )
        mix, run = task_mix.mix if task_mix else None, self.index.folder.name
        return Attribution(hits, {"method": method.name, "mix": mix, "run": run})


def trace(
    index: Index | RunName,
    queries: QueriesLike,
    method: Method | str | None = None,
    k: int = 10,
    task: QueriesLike | None = None,
    mix: float | str = "auto",
    device: str | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
    ray: str | None = None,
    **more: Unpack[More],
) -> Attribution:
    """Trace queries in a finished run; see ``Tracer.trace``.  Load a ``Tracer`` once for many calls.

    ray: address of a cluster whose workers search the run, or ``local``; None to search in this process.
    """
    opened = index if isinstance(index, Index) else Index(index)
    queries, method, task = checked_questions(opened, queries, method, k, task, mix)
    more["averaged_with"] = runs_of(more.get("averaged_with") or ())
    check_more(opened, method, k, task is not None, more)  # before the model is loaded
    if ray is None:
        tracer = Tracer(opened, device, trust_remote_code)
        return tracer.trace(queries, method, k, task, mix, progress, **more)
    if not method.projected:
        raise InputError(f"method '{method.name}' reads the passages, not the index; leave out --ray")
    if more.get("averaged_with"):
        raise InputError("several runs are averaged in this process; leave out --ray, or the other runs")
    if more.get("certified") is not None:
        raise InputError("a certified trace reads the full run here; leave out --ray, or --certified")
    with searching_on_ray(opened, ray) as shards:
        tracer = Tracer(opened, device, trust_remote_code, shards)
        return tracer.trace(queries, method, k, task, mix, progress, **more)
