"""Scores without projection: exact inner products of whole gradients, by one more pass over some passages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from proponent.attribute.attribution import Hit, ScoredPassage
from proponent.attribute.method import Method
from proponent.attribute.tokens import indexed_chunks
from proponent.corpus.example import Chunk, EncodedQuery, Query
from proponent.errors import InputError
from proponent.gradients.exact import (
    WholeGradients,
    exact_products,
    identity_projection,
    whole_gradients,
)
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.kronecker import sample_kronecker
from proponent.gradients.sweep import Sweep
from proponent.index.run import Index
from proponent.index.whitening import ScaledIdentity
from proponent.progress import Progress

if TYPE_CHECKING:
    from proponent.attribute.tracing import Tracer

# Bytes of the whole gradients of queries that are compared together, and passages whose products with them
# are held at a time.
QUERY_BYTES = 2**30
PASSAGES = 512


def check_exact(index: Index, method: Method) -> None:
    """Raise InputError for a method whose inner product is not known of whole gradients in this run."""
    if method.hessian != "none" and not index.white:
        raise InputError(
            f"method '{method.name}' divides by R_train, which is known of projected gradients alone; take "
            "cosine, or a run with --hessian identity"
        )


def exact_scores(
    tracer: Tracer, queries: Sequence[Query], method: Method, rows: Sequence[int], progress: Progress
) -> Tensor:
    """Scores [q, m] float64 of passages at some rows of the index, from whole gradients.

    No task mix.  Raises InputError as ``check_exact`` does, and for a passage whose tokens are not known any
    more, since another chunk of it was not kept.
    """
    check_exact(tracer.index, method)
    extractor, weights = tracer.unprojected, _weights(tracer.index, method)
    chunks = indexed_chunks(tracer, rows)
    encoded = [tracer.model.encoder.query(query, tracer.spec.max_length) for query in queries]
    groups = list(_together(encoded, extractor))
    scores = []
    with progress.stage("exact scores", len(rows) * len(groups), "rows") as advance:
        for group in groups:
            tokens, starts = [query.tokens for query in group], [query.boundary for query in group]
            asked = whole_gradients(extractor, tokens, starts, method.output)
            parts = []
            for start in range(0, len(chunks), PASSAGES):
                part = chunks[start : start + PASSAGES]
                parts.append(_compared(extractor, asked, part, tracer.spec.output, weights, method.unit_norm))
                advance(len(part))
            scores.append(torch.cat(parts, 1))
    return torch.cat(scores)


def unprojected_extractor(tracer: Tracer) -> FeatureExtractor:
    """What gives whole gradients, corrected as the features of a tracer's run are.

    Kronecker factors are made again of the passages that they were sampled on: a run does not keep them.
    Raises InputError for a run that does not say which these are.
    """
    spec, matrices = tracer.spec, tracer.plan.matrices
    if spec.second_moment != "kronecker":
        folded = {m.name: tracer.moments[m.name].fold(identity_projection(m)) for m in matrices}
    else:
        sampled = dict.fromkeys(tracer.index.sample)
        rows = [number for number, row in enumerate(tracer.index.rows()) if row.id in sampled]
        chunks = indexed_chunks(tracer, rows)
        tokens, starts = [chunk.tokens for chunk in chunks], [chunk.start for chunk in chunks]
        sweep = Sweep(tracer.model, matrices, spec.batch_tokens)
        _, folded = sample_kronecker(sweep, tokens, starts, identity_projection)
    return FeatureExtractor(tracer.model, tracer.plan, folded, spec.batch_tokens)


def _compared(
    extractor: FeatureExtractor,
    asked: WholeGradients,
    chunks: Sequence[Chunk],
    output: str,
    weights: Tensor,
    unit_norm: bool,
) -> Tensor:
    """Scores [q, n] of some passages; weights: [b] of the blocks' inner products."""
    tokens, starts = [chunk.tokens for chunk in chunks], [chunk.start for chunk in chunks]
    products, norms = exact_products(extractor, asked, tokens, starts, output)
    made = torch.einsum("b,bqn->qn", weights, products)
    if not unit_norm:
        return made
    ours, theirs = ((weights @ part.square()).sqrt() for part in (asked.norms, norms))
    return torch.nan_to_num(made / ours[:, None] / theirs)


def _weights(index: Index, method: Method) -> Tensor:
    """What each block's inner product counts, [b]."""
    if method.hessian == "none":
        return torch.ones(index.blocks, dtype=torch.float64)
    means = [block.mean for block in index.whitening.blocks if isinstance(block, ScaledIdentity)]
    return 1 / torch.tensor(means, dtype=torch.float64)


def _together(encoded: Sequence[EncodedQuery], extractor: FeatureExtractor) -> Iterator[list[EncodedQuery]]:
    """Queries in groups whose factors fit into ``QUERY_BYTES``, or one alone."""
    each = 4 * sum(len(sides.inside) + len(sides.outside[0]) for sides in extractor.sides.values())
    group, held = list[EncodedQuery](), 0
    for query in encoded:
        own = each * len(query.tokens)
        if group and held + own > QUERY_BYTES:
            yield group
            group, held = [], 0
        group.append(query)
        held += own
    yield group


def rescored(tracer: Tracer, hits: Sequence[Hit], method: Method, progress: Progress) -> list[Hit]:
    """The hits of a trace in this run with exact scores, in their order."""
    rows = sorted({p.row for hit in hits for p in (*hit.proponents, *hit.opponents) if p.row is not None})
    places = {row: n for n, row in enumerate(rows)}
    scores = exact_scores(tracer, [hit.query for hit in hits], method, rows, progress)

    def anew(passages: Sequence[ScoredPassage], own: Tensor, sign: int) -> tuple[ScoredPassage, ...]:
        known = [replace(p, score=float(own[places[p.row]])) for p in passages if p.row is not None]
        return tuple(sorted(known, key=lambda p: -sign * p.score))

    return [
        replace(hit, proponents=anew(hit.proponents, own, 1), opponents=anew(hit.opponents, own, -1))
        for hit, own in zip(hits, scores, strict=True)
    ]
