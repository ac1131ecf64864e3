"""One scan of the index for many queries: scores of every passage, the highest and the lowest kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from proponent.index.codes import decode_rows
from proponent.products import product

# Rows that are decoded at a time: they should stay in the caches between decoding and use, but a matrix
# product wants many.
DECODED = 128
# Fewer vectors than these meet the codes as they are stored, each in a product of its own: that reads memory
# twice as fast as decoding does, and slower than it for several vectors at once.
FEW_VECTORS = 3
# Pieces whose estimates are made together; their codes are views of files.
ESTIMATED = 64
HALF_PRECISION = 2**-11
# Stored codes have norm √d: products with them stay below this in float16, whose largest number is 65504.
HALF_RANGE = 2**15
# What a float32 sum of products may lose of the product of the norms: a hundred times what it does lose.
SUM_PRECISION = 2**-16


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of the index: ``ψ = codes · scale``.

    first: position of the first row in the index.  codes: [c, d], float16 as they are stored or float32.
    scale: [c].  whitened_norm: ‖ψ‖ [c].  feature_norm: ‖φ‖ [c], before whitening.
    """

    first: int
    codes: Tensor
    scale: Tensor
    whitened_norm: Tensor
    feature_norm: Tensor

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def whitened(self) -> Tensor:
        """ψ [c, d] float32, a copy."""
        return decode_rows(self.codes, self.scale)

    def part(self, start: int, stop: int) -> Piece:
        """Rows start..stop of the piece."""
        return self._of(self.first + start, slice(start, stop))

    def parts(self, rows: int) -> Iterator[Piece]:
        """The piece, so many rows at a time."""
        return (self.part(start, start + rows) for start in range(0, len(self), rows))

    def chosen(self, rows: Tensor) -> Piece:
        """Rows [r] of the piece, which no longer lie side by side in the index."""
        return self._of(self.first, rows)

    def _of(self, first: int, rows: slice | Tensor) -> Piece:
        columns = (self.codes, self.scale, self.whitened_norm, self.feature_norm)
        return Piece(first, *(column[rows] for column in columns))


class Scan(Protocol):
    """Queries ready to meet the passages; how depends on the inner product."""

    def __len__(self) -> int:
        """Number of queries q."""

    def scores(self, piece: Piece) -> Tensor:
        """Scores [q, c] of the passages of a piece."""


class Products:
    """Products of vectors [q, d] with codes as they are stored, decoded a few rows at a time.

    Always into the same memory: as much of it from the system each time would cost a quarter of a scan.
    """

    def __init__(self, vectors: Tensor) -> None:
        self._vectors, self._decoded = vectors, torch.empty(DECODED, vectors.shape[1])

    def of(self, codes: Tensor) -> Tensor:
        """``vectors · codesᵀ`` [q, n] in float32, for codes [n, d]."""
        made = torch.empty(len(self._vectors), len(codes))
        for rows, into in zip(codes.split(DECODED), made.split(DECODED, 1), strict=True):
            into.copy_(product(self._vectors, self._decoded[: len(rows)].copy_(rows)))
        return made


@dataclass(frozen=True)
class VectorScan:
    """``score = vector · ψ / (norm · passage norm)``.

    vectors: [q, d].  norms: [q], or None for scores without unit norm.
    passage_norms: gives the other divisor [c] of a piece's passages.
    """

    vectors: Tensor
    norms: Tensor | None
    passage_norms: Callable[[Piece], Tensor]

    def __len__(self) -> int:
        return len(self.vectors)

    def scores(self, piece: Piece) -> Tensor:
        """Scores [q, c] of the passages of a piece; 0 where a norm is 0."""
        return self._divided(self._products.of(piece.codes) * piece.scale, [piece])

    def estimate(self, pieces: Sequence[Piece]) -> tuple[Tensor, Tensor]:
        """Scores [q, c] of pieces as stored, and how far from those of ``scores`` they may be [q, c].

        The vectors are rounded to float16 and so is every product.  What the vectors lose by it is known,
        and what a score loses by that is at most its norm times the passage's.
        """
        rounded, size, lost = self._rounded
        products = [torch.cat([vector @ p.codes.T for vector in rounded.split(1)]) for p in pieces]
        raw = torch.cat(products, 1).double() * (torch.cat([piece.scale for piece in pieces]) / size)
        norms = torch.cat([piece.whitened_norm for piece in pieces])
        slack = HALF_PRECISION * raw.abs() + torch.outer(lost, norms)
        estimate, slack = self._divided(raw, pieces), self._divided(slack, pieces)
        # codes larger than an index has them: nothing is known of these rows
        unknown = ~(estimate.isfinite() & slack.isfinite())
        return estimate.masked_fill(unknown, 0), slack.masked_fill(unknown, torch.inf)

    @cached_property
    def _products(self) -> Products:
        return Products(self.vectors)

    @cached_property
    def _rounded(self) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors times a size in float16 [q, d], the sizes [q, 1], the norms of what they lose [q]."""
        vectors = self.vectors.double()  # the squares of small ones vanish in float32
        own = vectors.norm(dim=1, keepdim=True)
        size = HALF_RANGE / torch.where(own > 0, own, 1) / vectors.shape[1] ** 0.5
        rounded = (vectors * size).half()
        lost = (vectors - rounded.double() / size).norm(dim=1) + SUM_PRECISION * own[:, 0]
        return rounded, size, lost

    def _divided(self, raw: Tensor, pieces: Sequence[Piece]) -> Tensor:
        if self.norms is None:
            return raw
        return normalised(raw, self.norms, torch.cat([self.passage_norms(piece) for piece in pieces]))


def normalised(raw: Tensor, queries: Tensor, passages: Tensor) -> Tensor:
    """Raw scores [q, c] over the norms of queries [q] and passages [c]; 0 where a norm is 0."""
    divisor = torch.outer(queries, passages)
    return torch.where(divisor > 0, raw / divisor, torch.zeros_like(raw))


class TopRows:
    """The k highest scores and their positions for each query; ties go to the earlier passage."""

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self.scores = torch.empty(queries, 0)
        self.positions = torch.empty(queries, 0, dtype=torch.long)

    def add(self, scores: Tensor, positions: Tensor) -> None:
        """Take scores [q, c] of the passages at positions [c], ascending and above all that came before."""
        if self.scores.shape[1] == self._k:
            # a tie with the last one goes to it; few of a piece are above, and only those need sorting
            above = (scores > self.scores[:, -1:]).any(0)
            scores, positions = scores[:, above], positions[above]
        # stable, and earlier passages stand first: equal scores keep corpus order
        merged = torch.cat([self.scores, scores], 1)
        order = merged.sort(dim=1, descending=True, stable=True).indices[:, : self._k]
        self.scores = merged.gather(1, order)
        self.positions = torch.cat([self.positions, positions.expand(len(scores), -1)], 1).gather(1, order)

    def may_hold(self, scores: Tensor, slack: Tensor) -> Tensor:
        """Which passages [c] may be among the k highest, by scores [q, c] that may be off by slack [q, c]."""
        sure = torch.cat([self.scores, scores - slack], 1)
        if sure.shape[1] <= self._k:
            return torch.ones(scores.shape[1], dtype=torch.bool)
        floor = sure.topk(self._k).values[:, -1:]
        return (scores + slack >= floor).any(0)


@dataclass(frozen=True)
class Found:
    """Scores and positions [q, k] of the highest (proponents) and the lowest (opponents), best first."""

    proponent_scores: Tensor
    proponent_positions: Tensor
    opponent_scores: Tensor
    opponent_positions: Tensor


def search(pieces: Iterable[Piece], scan: Scan, k: int) -> Found:
    """Scan pieces of an index once and keep k proponents and k opponents of every query."""
    top, bottom = TopRows(len(scan), k), TopRows(len(scan), k)
    if isinstance(scan, VectorScan) and len(scan) < FEW_VECTORS:
        wanted = _likely(pieces, scan, top, bottom)
    else:
        wanted = _whole(pieces)
    for piece, rows in wanted:
        scores = scan.scores(piece)
        top.add(scores, piece.first + rows)
        bottom.add(-scores, piece.first + rows)
    return Found(top.scores, top.positions, -bottom.scores, bottom.positions)


def _whole(pieces: Iterable[Piece]) -> Iterator[tuple[Piece, Tensor]]:
    """Pieces and the numbers of their rows."""
    for piece in pieces:
        if len(piece):
            yield piece, torch.arange(len(piece))


def _likely(
    pieces: Iterable[Piece], scan: VectorScan, top: TopRows, bottom: TopRows
) -> Iterator[tuple[Piece, Tensor]]:
    """Of every piece the rows [r] that may be found, and their numbers; estimates rule out the others.

    Many pieces are ruled on together: the more rows are known, the fewer may be found, and what a ruling
    costs besides the products is the same for one piece and for many.
    """
    waiting = iter(pieces)
    while group := list(islice(waiting, ESTIMATED)):
        if any(piece.codes.dtype != torch.float16 for piece in group):
            yield from _whole(group)
            continue
        scores, slack = scan.estimate(group)
        may = top.may_hold(scores, slack) | bottom.may_hold(-scores, slack)
        for piece, found in zip(group, may.split([len(piece) for piece in group]), strict=True):
            if found.any():
                rows = found.nonzero()[:, 0]
                yield piece.chosen(rows), rows
