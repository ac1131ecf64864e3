"""Whole gradients of a run's queries and passages, without projection, and inner products of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from proponent.attribute.method import Method
from proponent.attribute.tokens import indexed_chunks
from proponent.corpus.example import Chunk, EncodedQuery
from proponent.gradients.exact import (
    WholeGradients,
    exact_products,
    identity_projection,
    whole_gradients,
    whole_norms,
)
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.kronecker import sample_kronecker
from proponent.gradients.sweep import Sweep
from proponent.index.run import Index
from proponent.index.whitening import ScaledIdentity
from proponent.progress import Advance

if TYPE_CHECKING:
    from proponent.attribute.tracing import Tracer

QUERY_BYTES = 2**30  # of the whole gradients of queries that are compared together


@dataclass(frozen=True)
class Unprojected:
    """What gives whole gradients G̃ of a run, corrected but not projected.

    extractor: of features whose projections are the identity.  means: μ [b] float64 where R_train is taken
    for μ I in each block.
    """

    extractor: FeatureExtractor
    means: Tensor

    @classmethod
    def corrected_as_run(cls, tracer: Tracer) -> Unprojected:
        """Gradients corrected as the features of a run are, with its R_train where that is an identity."""
        factored = tracer.spec.second_moment == "kronecker"
        extractor = _factored(tracer) if factored else _rank_one(tracer)
        blocks = tracer.index.whitening.blocks if tracer.index.white else ()
        means = [block.mean for block in blocks if isinstance(block, ScaledIdentity)]
        return cls(extractor, torch.tensor(means or [1.0] * tracer.index.blocks, dtype=torch.float64))

    @classmethod
    def with_factors(cls, tracer: Tracer) -> Unprojected:
        """Gradients that Kronecker factors of the run's sample correct, which makes them nearly white.

        Both V and R_train of a run approximate the inverse of E[vec G vec Gᵀ], V before the projection and
        R_train of what it leaves; ``L ⊗ R`` approximates it of whole gradients at once.
        """
        extractor, chunks = _factored(tracer), indexed_chunks(tracer, _others(tracer.index))
        tokens, starts = [chunk.tokens for chunk in chunks], [chunk.start for chunk in chunks]
        # not of the sample itself, whose own gradients its factors make shorter than all others
        norms = whole_norms(extractor, tokens, starts, tracer.spec.output)
        width = tracer.index.dim / tracer.index.blocks  # so that a task's λ weighs as it does in the scan
        means = norms[:, norms.isfinite().all(0)].square().mean(1) / width
        return cls(extractor, means.where(means > 0, 1.0))  # of a block without gradients too


def by_factors(index: Index, method: Method) -> bool:
    """Whether Kronecker factors stand for what a method divides by, known of projected gradients alone."""
    return method.hessian != "none" and not index.white


def check_unprojected(index: Index, method: Method) -> None:
    """Raise InputError where Kronecker factors are needed of passages that a run does not name."""
    if by_factors(index, method) or index.spec["second_moment"] == "kronecker":
        _ = index.sample


def _rank_one(tracer: Tracer) -> FeatureExtractor:
    matrices = tracer.plan.matrices
    folded = {m.name: tracer.moments[m.name].fold(identity_projection(m)) for m in matrices}
    return FeatureExtractor(tracer.model, tracer.plan, folded, tracer.spec.batch_tokens)


def _factored(tracer: Tracer) -> FeatureExtractor:
    """Kronecker factors are made again of the passages that the run sampled: a run does not keep them."""
    chunks, matrices = _sample(tracer), tracer.plan.matrices
    tokens, starts = [chunk.tokens for chunk in chunks], [chunk.start for chunk in chunks]
    sweep = Sweep(tracer.model, matrices, tracer.spec.batch_tokens)
    _, folded = sample_kronecker(sweep, tokens, starts, identity_projection)
    return FeatureExtractor(tracer.model, tracer.plan, folded, tracer.spec.batch_tokens)


def _sample(tracer: Tracer) -> list[Chunk]:
    """The chunks that a run's second moments are of; InputError where it does not name them."""
    sampled = dict.fromkeys(tracer.index.sample)
    return indexed_chunks(tracer, [n for n, row in enumerate(tracer.index.rows()) if row.id in sampled])


def _others(index: Index) -> list[int]:
    """Of rows spread over a run, as many as were sampled, those that were not; all where none is left."""
    sampled = set(index.sample)
    count = min(len(index), len(sampled))
    spread = [n * len(index) // count for n in range(count)]
    found = index.passages(spread)
    return [row for row in spread if found[row].id not in sampled] or spread


# Token ids, and the index of the first that the output function scores.
TokenRow = tuple[Sequence[int], int]


class QueryProducts:
    """Inner products of queries' whole gradients in each block, with each other's and with passages'.

    queries: compared as many at a time as fit into ``QUERY_BYTES``.  output: the function that their
    gradients are of.
    """

    def __init__(self, extractor: FeatureExtractor, queries: Sequence[EncodedQuery], output: str) -> None:
        self._extractor, self._output = extractor, output
        self._rows: list[TokenRow] = [(query.tokens, query.boundary) for query in queries]
        self.groups = list(_together(self._rows, extractor))
        self._held: tuple[list[TokenRow], WholeGradients] | None = None

    def among(self) -> Tensor:
        """Of all pairs of queries, [b, q, q] float64."""
        found, _ = self._with(self._rows, self._output)
        return (found + found.transpose(1, 2)) / 2  # rounding alone tells the two apart

    def with_chunks(self, chunks: Sequence[Chunk], output: str, advance: Advance) -> tuple[Tensor, Tensor]:
        """Of queries and passages [b, q, n], and norms ``‖G̃‖`` [b, n] of the passages, float64."""
        return self._with([(chunk.tokens, chunk.start) for chunk in chunks], output, advance)

    def _with(
        self, rows: Sequence[TokenRow], output: str, advance: Advance | None = None
    ) -> tuple[Tensor, Tensor]:
        tokens, starts = zip(*rows, strict=True)
        done = None if advance is None else lambda members: advance(len(members))
        made, norms = list[Tensor](), torch.empty(0)
        for group in self.groups:
            products, norms = exact_products(
                self._extractor, self._gradients(group), tokens, starts, output, done
            )
            made.append(products)
        return torch.cat(made, 1), norms

    def _gradients(self, group: list[TokenRow]) -> WholeGradients:
        """Those of a group's queries, which are made anew where there are several groups."""
        if self._held is None or self._held[0] is not group:
            self._held = None  # before the next are made
            tokens, starts = zip(*group, strict=True)
            self._held = group, whole_gradients(self._extractor, tokens, starts, self._output)
        return self._held[1]


def _together(rows: Sequence[TokenRow], extractor: FeatureExtractor) -> Iterator[list[TokenRow]]:
    """Rows in groups whose factors fit into ``QUERY_BYTES``, or one alone."""
    each = 4 * sum(len(sides.inside) + len(sides.outside[0]) for sides in extractor.sides.values())
    group, held = list[TokenRow](), 0
    for row in rows:
        own = each * len(row[0])
        if group and held + own > QUERY_BYTES:
            yield group
            group, held = [], 0
        group.append(row)
        held += own
    yield group
