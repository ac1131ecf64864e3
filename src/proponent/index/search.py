"""One scan of the index for many queries: scores of every passage, the highest and the lowest kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from proponent.index.code_products import CodeProducts
from proponent.index.codes import decode_rows

# Pieces whose scores are sorted together: sorting costs as much for one as for many.
TOGETHER = 16


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
        columns = (self.codes, self.scale, self.whitened_norm, self.feature_norm)
        return Piece(self.first + start, *(column[start:stop] for column in columns))

    def parts(self, rows: int) -> Iterator[Piece]:
        """The piece, so many rows at a time."""
        return (self.part(start, start + rows) for start in range(0, len(self), rows))


class Scan(Protocol):
    """Queries ready to meet the passages; how depends on the inner product."""

    def __len__(self) -> int:
        """Number of queries q."""

    def scores(self, piece: Piece) -> Tensor:
        """Scores [q, c] of the passages of a piece."""


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
        raw = self._products.of(piece.codes) * piece.scale
        return raw if self.norms is None else normalised(raw, self.norms, self.passage_norms(piece))

    @cached_property
    def _products(self) -> CodeProducts:
        return CodeProducts(self.vectors)


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
        # few are high enough, and only those need sorting
        if self.scores.shape[1] == self._k:
            high = scores > self.scores[:, -1:]  # a tie with the last one goes to it
        else:
            high = ~(scores < scores.topk(min(self._k, scores.shape[1])).values[:, -1:])
        wanted = high.any(0)
        scores, positions = scores[:, wanted], positions[wanted]
        # stable, and earlier passages stand first: equal scores keep corpus order
        merged = torch.cat([self.scores, scores], 1)
        order = merged.sort(dim=1, descending=True, stable=True).indices[:, : self._k]
        self.scores = merged.gather(1, order)
        self.positions = torch.cat([self.positions, positions.expand(len(scores), -1)], 1).gather(1, order)


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
    scored = ((scan.scores(piece), piece.first + torch.arange(len(piece))) for piece in pieces if len(piece))
    while group := list(islice(scored, TOGETHER)):
        scores, positions = (torch.cat(parts, -1) for parts in zip(*group, strict=True))
        top.add(scores, positions)
        bottom.add(-scores, positions)
    return Found(top.scores, top.positions, -bottom.scores, bottom.positions)
