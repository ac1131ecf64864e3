"""Traces of a compact run that end with the full run's answer, or say how far they came."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from proponent.attribute.attribution import Attribution, Hit
from proponent.attribute.certificate import Certificate
from proponent.attribute.method import Method
from proponent.build.compact import full_run
from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.index.background import Background
from proponent.index.certified import SURE, Certified, CodeBounds, Reader, bounds, find
from proponent.index.run import Index
from proponent.index.scores import QueryScan, QueryTerms
from proponent.index.search import Found
from proponent.progress import Progress

if TYPE_CHECKING:
    from proponent.attribute.refine import More
    from proponent.attribute.tracing import Tracer

HELD = 2**24  # bounds of each side that are held at a time, of all queries


def confidence_of(certified: str | float) -> float:
    """The probability that is asked for: 1.0 for ``sure``; InputError for what is none."""
    try:
        found = SURE if certified == "sure" else float(certified)
    except ValueError:
        found = math.nan
    if found != SURE and not 0.5 <= found < 1:
        raise InputError(f"certified is '{certified}'; give 'sure', or a probability from 0.5 to 1")
    return found


def check_certified(index: Index, more: More, mixed: bool) -> None:
    """Raise InputError for a certified trace that this run cannot give.  mixed: whether there is a task."""
    certified, within = more.get("certified"), more.get("within")
    if certified is None:
        for value, what in ((within, "a time limit"), (more.get("full"), "the place of a full run")):
            if value is not None:
                raise InputError(f"{what} is for a certified trace; add --certified, or leave it out")
        return
    confidence_of(certified)
    if within is not None and not 0 < within < math.inf:
        raise InputError(f"within is {within}; give seconds, more than 0")
    if mixed:
        raise InputError(
            "a certified trace has no task mix: the passages' norms under it are not known from signs; leave "
            "out the task, or trace the full run"
        )
    if index.sketch is None:
        raise InputError(
            f"{index.folder.name}: is a full run, and every trace of it exact; leave out --certified"
        )
    if index.sketch.dim < index.dim:
        raise InputError(
            f"{index.folder.name}: keeps {index.sketch.dim:,} of {index.dim:,} coordinates, which bound no "
            f"score of all; a certified trace needs a compact run of {index.dim // 8:,} bytes or more"
        )
    full_run(index, more.get("full"))


def certified_attribution(
    tracer: Tracer,
    queries: Sequence[Query],
    method: Method,
    k: int,
    more: More,
    progress: Progress,
) -> Attribution:
    """The k proponents and opponents of queries in the full run, found through the codes of a compact one.

    more: ``certified`` and its companions; the time is for the search of all these queries together.
    """
    within, confidence = more.get("within"), confidence_of(more["certified"] or "")
    full, until = full_run(tracer.index, more.get("full")), math.inf
    if within is not None:
        until = time.monotonic() + within
    features, size = tracer.features(queries, method.output), max(1, HELD // len(full))
    hits: list[Hit] = []
    with progress.stage("certified search", len(queries), "queries") as advance:
        for start in range(0, len(queries), size):
            part = slice(start, start + size)
            search = _Search(tracer, full, method, features[part], confidence)
            for number, query in enumerate(queries[part]):
                hits.append(search.hit(query, number, k, until))
                advance(1)
    run = tracer.index.folder.name
    return Attribution(tuple(hits), {"method": method.name, "mix": None, "run": run})


class _Search:
    """Queries of features φ_q [q, d] with the bounds of all scores."""

    def __init__(
        self, tracer: Tracer, full: Index, method: Method, features: Tensor, confidence: float
    ) -> None:
        self._tracer, self._full, self._method, self._confidence = tracer, full, method, confidence
        self._inner, index = method.inner_product(None), tracer.index
        assert index.sketch is not None
        self._terms = QueryTerms(features, full.whitening)
        of = CodeBounds(self._terms, self._inner, index.sketch, confidence, len(index))
        self._lower, self._upper = bounds(index.shards(), of)

    def hit(self, query: Query, number: int, k: int, until: float) -> Hit:
        """The hit of one of the queries, with its certificate."""
        rows = len(self._full)
        scan = QueryScan(self._terms.part(slice(number, number + 1)), self._inner)
        reader = Reader(scan, self._full.only, torch.full((rows,), torch.nan))
        best = find(reader, self._upper[number], k, until)
        worst = find(reader, -self._lower[number], k, until, sign=-1)
        above, below = ((side.scores[None], side.positions[None]) for side in (best, worst))
        found = Found(*above, *below, Background(1))
        hit = self._tracer.attribution([query], found, self._method)[0]
        sure = [int(side.certain.sum()) for side in (best, worst)]
        left = [_finite(side) for side in (best, worst)]
        return replace(hit, certificate=Certificate(self._confidence, rows, reader.rows_read, *sure, *left))


def _finite(side: Certified) -> float | None:
    return side.missed if math.isfinite(side.missed) else None
