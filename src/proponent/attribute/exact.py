"""Scores without projection: exact inner products of whole gradients, by one more pass over some passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from proponent.attribute.attribution import Hit, ScoredPassage
from proponent.attribute.method import Method
from proponent.attribute.questions import Task
from proponent.attribute.tokens import indexed_chunks
from proponent.attribute.unprojected import QueryProducts
from proponent.corpus.example import Query
from proponent.index.product_mix import ProductMix
from proponent.progress import Progress

if TYPE_CHECKING:
    from proponent.attribute.tracing import Tracer

PRODUCT_BYTES = 2**30  # of passages' inner products with queries, held at a time


def exact_scores(
    tracer: Tracer,
    queries: Sequence[Query],
    method: Method,
    rows: Sequence[int],
    progress: Progress,
    task: Task | None = None,
) -> Tensor:
    """Scores [q, m] float64 of passages at some rows of the index, from whole gradients.

    A method that divides by R_train compares gradients that Kronecker factors correct, as V and R_train
    together do where both are of projected gradients.  task: for a method whose Hessian is mixed.  Raises
    InputError for a run that does not name its sample, and for a passage whose tokens are not known any
    more, since another chunk of it was not kept.
    """
    chunks, whole = indexed_chunks(tracer, rows), tracer.unprojected(method)
    task = task if method.hessian == "mixed" else None
    every = (*queries, *(task.queries if task else ()))
    encoded = [tracer.model.encoder.query(one, tracer.spec.max_length) for one in every]
    asked = {one: number for number, one in enumerate(dict.fromkeys(encoded))}
    places = torch.tensor([asked[one] for one in encoded])
    products = QueryProducts(whole.extractor, list(asked), method.output)
    weights = torch.ones_like(whole.means) if method.hessian == "none" else 1 / whole.means
    own, of_task = places[: len(queries)], places[len(queries) :]
    scoring = _Scoring(products.among(), weights, own, of_task, task.mix.mix if task else 0.0)
    lot = max(1, PRODUCT_BYTES // (8 * len(weights) * len(asked)))
    made = []
    with progress.stage("exact scores", len(rows) * len(products.groups), "rows") as advance:
        for start in range(0, len(chunks), lot):
            found = products.with_chunks(chunks[start : start + lot], tracer.spec.output, advance)
            made.append(scoring(*found, method.unit_norm))
    return torch.cat(made, 1)


class _Scoring:
    """Scores of passages from the inner products of each block.

    among: of queries, [b, n, n].  weights: [b] what those of a block count.  own, task: numbers of the
    queries that are asked, and of those of a task that weighs λ.
    """

    def __init__(self, among: Tensor, weights: Tensor, own: Tensor, task: Tensor, mix: float) -> None:
        self._weights, self._own, self._task = weights[:, None, None], own, task
        among = self._weights * among
        with_task = among[:, task]  # [b, t, n]
        self._mix, self._between = ProductMix(with_task[:, :, task], mix), with_task[:, :, own]
        self._norms = self._mix.norms(among.diagonal(dim1=1, dim2=2)[:, own], self._between)

    def __call__(self, products: Tensor, norms: Tensor, unit_norm: bool) -> Tensor:
        """Scores [q, m] from products [b, n, m] and norms [b, m]."""
        products, squared = self._weights * products, self._weights[:, 0] * norms.square()
        with_task = products[:, self._task]
        made = self._mix.products(products[:, self._own], self._between, with_task)
        if not unit_norm:
            return made
        return torch.nan_to_num(made / self._norms[:, None] / self._mix.norms(squared, with_task))


def rescored(
    tracer: Tracer, hits: Sequence[Hit], method: Method, progress: Progress, task: Task | None = None
) -> list[Hit]:
    """The hits of a trace in this run with exact scores, in their order; task: as of ``exact_scores``."""
    rows = sorted({p.row for hit in hits for p in (*hit.proponents, *hit.opponents) if p.row is not None})
    places = {row: n for n, row in enumerate(rows)}
    scores = exact_scores(tracer, [hit.query for hit in hits], method, rows, progress, task)

    def anew(passages: Sequence[ScoredPassage], own: Tensor, sign: int) -> tuple[ScoredPassage, ...]:
        known = [replace(p, score=float(own[places[p.row]])) for p in passages if p.row is not None]
        return tuple(sorted(known, key=lambda p: -sign * p.score))

    return [
        replace(hit, proponents=anew(hit.proponents, own, 1), opponents=anew(hit.opponents, own, -1))
        for hit, own in zip(hits, scores, strict=True)
    ]
