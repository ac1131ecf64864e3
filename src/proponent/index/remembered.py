"""What is kept of a query and of the passages, to rank again under another λ or Hessian without a scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from proponent.index.codec import RowProducts
from proponent.index.mix import TaskSubspace
from proponent.index.scores import TOGETHER, InnerProduct, PassageTerms, QueryTerms, combine
from proponent.index.search import Shard

# The values of a function for every shard of an index, in their order; shards may be in other processes.
Each = Callable[[Callable[[Shard], Any]], list[Any]]


def all_terms(each: Each, subspace: TaskSubspace | None) -> PassageTerms:
    """The terms of all passages, by one scan of an index."""
    kept = None if subspace is None else subspace.for_passages()
    parts = [part for of_shard in each(partial(_terms, kept)) for part in of_shard]
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return PassageTerms(*(torch.cat(column, -1) for column in columns))


def _terms(subspace: TaskSubspace | None, shard: Shard) -> list[PassageTerms]:
    return [PassageTerms.of(part, subspace) for part in shard.parts(TOGETHER)]


@dataclass(frozen=True)
class Remembered:
    """One query with its products with all passages.

    products: [1, n] of each of the query's vectors.
    """

    query: QueryTerms
    products: Mapping[str, Tensor]

    @classmethod
    def of(cls, each: Each, query: QueryTerms) -> Remembered:
        """One scan of an index for a query, q = 1."""
        names = ["none", "train"] + (["beyond"] if query.subspace is not None else [])
        vectors = RowProducts(torch.cat([query.vectors(name) for name in names]))
        raw = torch.cat(each(partial(_products, vectors)), 1)
        return cls(query, dict(zip(names, raw.split(1), strict=True)))

    def scores(self, inner: InnerProduct, passages: PassageTerms) -> Tensor:
        """Scores [1, n] of all passages."""
        return combine(inner, self.query, passages, self.products.__getitem__)


def _products(vectors: RowProducts, shard: Shard) -> Tensor:
    return vectors.of(shard.rows)
