"""The best rows of a full index, found through the codes of a compact one: which rows need not be read.

Codes give every row a lower and an upper bound of its full-precision score.  Rows are read in the order of
their upper bounds until no row that is left can be among the best: the answer is that of a scan of all rows,
and the search ends after one full read at the latest.  Two bounds (docs/theory.md, "Certified search"):

- sure, by Cauchy and Schwarz: along the direction c = Sᵀs / ‖Sᵀs‖ of a row's code both products are known,
  and beyond it they are no more than the product of the two residual norms;
- with a stated probability, for all rows of a query together: the estimate from signs is off by at most z
  standard deviations, where z is the normal quantile of the probability shared out over the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from proponent.index.norms import row_norms
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import Shard, TopRows, in_lots, over_shards
from proponent.index.signs import SignProducts, SignRows
from proponent.index.sketch import Sketch

# What rounding may add to a cosine: a row stored in float16 may be longer by 2^-11 than its norm says.
ROUNDING = 6e-4
FIRST, MOST = 64, 1024  # rows that are read at a time: few at first, each time twice as many
SURE = 1.0


class CodeBounds:
    """Bounds of the scores of queries from signs.

    queries: of the full run.  inner: without a task mix, whose norms of passages codes do not bound.
    confidence: probability that all bounds of a query hold, over the draw of a Gaussian sketch; or ``SURE``.
    rows: of the index, among which what is left of the probability is shared out.
    """

    def __init__(
        self, queries: QueryTerms, inner: InnerProduct, sketch: Sketch, confidence: float, rows: int
    ) -> None:
        assert inner.mix is None
        self._inner = inner
        vectors = queries.vectors("none" if inner.hessian == "none" else "train")
        self._lengths = row_norms(vectors)[:, None]
        self._ours = (queries.norms if inner.hessian == "none" else queries.whitened_norms)[:, None]
        # of unit norm, as rows are bounded: squares of small gradients vanish in float32
        sketched = sketch(vectors / torch.where(self._lengths > 0, self._lengths, 1.0))
        self._coarse = SignProducts(sketched)
        rest = sketched - self._coarse.rounded
        self._fine = SignProducts(rest)  # a second rounding, of what the first leaves
        self._left = (rest - self._fine.rounded).abs().sum(1, keepdim=True)
        tails = (1 - confidence) / 2 / rows
        self._deviations = None if confidence == SURE else -NormalDist().inv_cdf(tails)

    def __len__(self) -> int:
        """Number of queries."""
        return len(self._lengths)

    def of(self, shard: Shard) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds [q, n] of the scores of a shard of the compact index."""
        rows = shard.rows
        assert isinstance(rows, SignRows)
        norms = torch.where(rows.norms > 0, rows.norms, 1.0)
        scale = rows.scale / norms
        estimate = (self._coarse.of(rows) + self._fine.of(rows)) / norms
        off = self._left * scale  # by which an estimate may be wrong for rounding alone
        if self._deviations is None:
            middle, reach = _by_residuals(rows.residual / norms, estimate, off)
        else:
            middle, reach = estimate, self._deviations * scale + off
        size = self._size(shard)
        return (middle - reach - ROUNDING) * size, (middle + reach + ROUNDING) * size

    def _size(self, shard: Shard) -> Tensor:
        """What a cosine [q, n] of the vectors with the rows is multiplied by to be a score; 0 for none."""
        if not self._inner.unit_norm:
            return self._lengths * shard.rows.norms
        theirs = shard.feature_norms if self._inner.hessian == "none" else shard.rows.norms
        sizes = (self._lengths / self._ours) * (shard.rows.norms / theirs)
        return torch.where((self._ours > 0) & (theirs > 0), sizes, 0.0)


def _by_residuals(residual: Tensor, estimate: Tensor, off: Tensor) -> tuple[Tensor, Tensor]:
    """``v·ψ = (v·c)(ψ·c) + v'·ψ'``, v' and ψ' beyond c: its first term, and the most of its second.

    Of unit vectors.  residual: ‖ψ'‖ [n].  estimate: scale · ⟨s, Sv⟩ [q, n], wrong by ``off`` at most.
    """
    along = (1 - residual.square()).clamp(min=0).sqrt()  # ψ·c
    ours, doubt = estimate * along, off * along  # v·c
    least = (ours.abs() - doubt).clamp(min=0)
    beyond = (1 - least.square()).clamp(min=0).sqrt()
    return ours * along, beyond * residual + doubt * along


@dataclass(frozen=True)
class Certified:
    """What was found for one query.

    scores, positions: [k], of the full run, best first.  certain: [k], whether each is among the true k.
    missed: what no other row exceeds (or, of opponents, undercuts).
    """

    scores: Tensor
    positions: Tensor
    certain: Tensor
    missed: float


@dataclass(frozen=True)
class Reader:
    """Full-precision scores of one query, read when they are asked for.

    scan: of the query, q = 1, in the full run.  only: the rows at ascending positions, as of ``Index.only``.
    """

    scan: QueryScan
    only: Callable[[Tensor], Iterator[Shard]]
    known: Tensor  # scores [n] of the full run, NaN where they were not read yet

    def read(self, positions: Tensor) -> None:
        """Read the rows at some positions [m]."""
        if len(ordered := positions.sort().values):
            self.known[ordered] = torch.cat([self.scan.scores(shard)[0] for shard in self.only(ordered)])

    @property
    def rows_read(self) -> int:
        """How many were read."""
        return int((~self.known.isnan()).sum())


def find(reader: Reader, upper: Tensor, k: int, until: float, sign: int = 1) -> Certified:
    """The k highest scores of a query (the lowest with a sign of −1), reading no more rows than must be.

    upper: bounds [n] of ``sign`` times the scores.  until: when ``time.monotonic`` says so, it stops with
    what it has; at least k rows are read.
    """
    order, count, start = upper.sort(descending=True, stable=True).indices, FIRST, 0
    while start < len(order):
        least, enough = _kth(reader.known * sign, k)
        if start and enough and (float(upper[order[start]]) < least or time.monotonic() > until):
            break
        batch = order[start : start + max(count, k)]
        start, count = start + len(batch), min(2 * count, MOST)
        reader.read(batch[reader.known[batch].isnan()])
    read = (~reader.known.isnan()).nonzero()[:, 0]
    top = TopRows(1, k)
    top.add(sign * reader.known[read][None], read)
    unread = upper[reader.known.isnan()]
    missed = float(unread.max()) if len(unread) else -torch.inf
    certain = top.scores[0] > missed
    return Certified(sign * top.scores[0], top.positions[0], certain, sign * missed)


def _kth(scores: Tensor, k: int) -> tuple[float, bool]:
    """The k-th highest of the scores that are known, and whether there are so many."""
    known = scores[~scores.isnan()]
    return (float(known.topk(k).values[-1]), True) if len(known) >= k else (0.0, False)


def bounds(codes: Iterable[Shard], of: CodeBounds) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds [q, n] of the scores of all rows, by one scan of the codes."""
    parts = [found for _, found in over_shards(of.of, in_lots(codes, len(of)))]
    lower, upper = (torch.cat(column, 1) for column in zip(*parts, strict=True))
    return lower, upper
