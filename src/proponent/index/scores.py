"""Scores of queries and passages under any Hessian, λ and norm, from the one stored index of ψ = W φ.

    φ_q · φ_m = (W⁻ᵀ φ_q) · ψ_m        φ_qᵀ R_train⁻¹ φ_m = ψ_q · ψ_m        φ_qᵀ R'⁻¹ φ_m = (R'⁻¹ ψ_q) · ψ_m

The task mix R' has the eigenvalue 1 − λ + λσ along each direction u of the task's subspace and 1 − λ beyond
them, so all that it needs of a passage is ``Uᵀψ`` and ``‖ψ − UUᵀψ‖``.  ``combine`` is this algebra: a scan
does it a shard at a time, and ``remembered.py`` with a query's products that are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from proponent.index.codec import RowProducts
from proponent.index.mix import TaskMix, TaskSubspace, whiten_precisely
from proponent.index.norms import row_norms
from proponent.index.search import Shard
from proponent.index.signs import SignRows
from proponent.index.whitening import Whitening
from proponent.products import product

HESSIANS = ("none", "train", "mixed")
# A share of ‖ψ_q‖² under R'⁻¹ that no score shows: its root, 1e-7, is the most that a cosine can change.
NEGLIGIBLE = 1e-14
# Passages that are compared with a task's directions at a time: one block of them should stay in the caches.
TOGETHER = 512


@dataclass(frozen=True)
class InnerProduct:
    """How queries and passages are compared.

    hessian: ``none``, ``train`` (R_train) or ``mixed`` (the task mix, which needs ``mix``).
    unit_norm: whether both are scaled to unit norm under it.
    """

    hessian: str
    unit_norm: bool
    mix: TaskMix | None = None

    @property
    def subspace(self) -> TaskSubspace | None:
        """Whose directions are needed of the passages."""
        return self.mix.subspace if self.mix is not None else None


@dataclass(frozen=True)
class QueryTerms:
    """All that inner products need of queries φ [q, d]; each vector is made when it is first used.

    subspace: of the task whose mix is meant, None for none.
    """

    features: Tensor
    whitening: Whitening
    subspace: TaskSubspace | None = None

    def part(self, rows: slice) -> QueryTerms:
        """Some of the queries, whitened with all of them: a product may round others otherwise."""
        made = replace(self, features=self.features[rows])
        vars(made)["whitened"] = self.whitened[rows]  # where a cached property keeps its value
        return made

    def vectors(self, name: str) -> Tensor:
        """The vectors [q, d] float32 to multiply with ψ_m for ``none``, ``train``, or ``beyond`` the task.

        For a compact index, whose rows are of Sψ, they are [q, m].
        """
        if name == "none":
            return self._sketched(self.whitening.adjoint(self.features))
        if name == "train":
            return self._sketched(self.whitened.float())
        beyond = self._split[1].float()
        return self._sketched(beyond if beyond.numel() else torch.zeros(len(beyond), self._dim))

    def mixed_vectors(self, mix: TaskMix) -> Tensor:
        """``R'⁻¹ ψ_q`` [q, d or m] float32, which needs no coordinates of ψ_m along the task."""
        return self._sketched(self._shrunk(mix).float())

    def _shrunk(self, mix: TaskMix) -> Tensor:
        """``R'⁻¹ ψ_q`` [q, d] float64."""
        shrunk = mix.subspace.join(self.along * mix.shrink())
        if self._split[1].numel():
            shrunk += self._split[1] / (1 - mix.mix)
        return shrunk

    @property
    def _dim(self) -> int:
        """Coordinates of ψ before any sketch."""
        sketch = self.whitening.sketch
        return sketch.dim if sketch else self.features.shape[1]

    def _sketched(self, vectors: Tensor) -> Tensor:
        return self.whitening.sketch(vectors) if self.whitening.sketch else vectors

    def directions(self, inner: InnerProduct) -> Tensor:
        """v = R⁻¹ φ_q [q, d] float64: ``v · φ_m`` is the inner product, before any norm."""
        if inner.hessian == "none":
            return self.features.double()
        if inner.mix is None:
            return self.whitening.pull_back(whiten_precisely(self.features, self.whitening))
        return self.whitening.pull_back(self._shrunk(inner.mix))

    @cached_property
    def whitened(self) -> Tensor:
        """ψ [q, d], in float64 where there is a subspace that it has to lie in."""
        if self.subspace is None:
            return self.whitening.whiten(self.features)
        return whiten_precisely(self.features, self.whitening)

    @property
    def along(self) -> Tensor:
        """``Uᵀψ`` [q, r] float64."""
        return self._split[0]

    @cached_property
    def norms(self) -> Tensor:
        """‖φ‖ [q]."""
        return row_norms(self.features)

    @cached_property
    def whitened_norms(self) -> Tensor:
        """‖ψ‖ [q]."""
        return row_norms(self.whitened).float()

    @cached_property
    def beyond(self) -> Tensor:
        """‖ψ − UUᵀψ‖² [q] float64."""
        return self._split[1].square().sum(1)

    @cached_property
    def _split(self) -> tuple[Tensor, Tensor]:
        assert self.subspace is not None
        return self.subspace.split_queries(self.features, self.whitening)

    def for_scores(self, inner: InnerProduct) -> QueryTerms:
        """What ``combine`` needs of the queries without vectors and the whitening."""
        none = self.features[:, :0]
        known: dict[str, object]
        if inner.hessian == "none":
            known = {"norms": self.norms}
        elif inner.mix is None:
            known = {"whitened_norms": self.whitened_norms}
        else:
            known = {"beyond": self.beyond, "_split": (self.along, none)}
        made = QueryTerms(none, Whitening(()), inner.subspace)
        vars(made).update(known)  # where cached properties keep their values
        return made

    def far(self, mix: TaskMix) -> Tensor:
        """Numbers of the queries that have more than rounding beyond the subspace, under this λ."""
        inside = self.along.square() @ mix.shrink()
        apart = self.beyond / (1 - mix.mix)
        return (apart > NEGLIGIBLE * (inside + apart)).nonzero()[:, 0]


@dataclass(frozen=True)
class PassageTerms:
    """What scores need of n passages besides products with vectors, whatever the query.

    norms, whitened_norms: ‖φ‖ and ‖ψ‖ [n].  along: ``Uᵀψ`` [r, n].  beyond: ‖ψ − UUᵀψ‖² [n]; the last two are
    empty without a task, and of a compact index, whose signs do not know them.
    """

    norms: Tensor
    whitened_norms: Tensor
    along: Tensor
    beyond: Tensor

    @classmethod
    def of(cls, shard: Shard, subspace: TaskSubspace | None) -> PassageTerms:
        """The terms of a shard; with a task they cost a product with each of its directions."""
        if subspace is None or isinstance(shard.rows, SignRows):
            return cls(shard.feature_norms, shard.rows.norms, torch.empty(0, 0), torch.empty(0))
        along = subspace.along(shard.rows)
        return cls(shard.feature_norms, shard.rows.norms, along, subspace.beyond(shard.rows, along))


def combine(
    inner: InnerProduct, queries: QueryTerms, passages: PassageTerms, raw: Callable[[str], Tensor]
) -> Tensor:
    """Scores [q, n]; 0 where a norm is 0.

    raw: products [q, n] of the queries' vectors of a name with ψ_m; for ``beyond`` of those of ``far`` alone,
    and for ``mixed`` of R'⁻¹ ψ_q.
    """
    if inner.hessian == "none":
        made, ours, theirs = raw("none"), queries.norms, passages.norms
    elif inner.mix is None:
        made, ours, theirs = raw("train"), queries.whitened_norms, passages.whitened_norms
    else:
        made, ours, theirs = _mixed(inner.mix, queries, passages, raw)
    if not inner.unit_norm:
        return made
    cosines = made / ours[:, None] / theirs  # not over their product, which may be too small for float32
    return torch.where((ours[:, None] > 0) & (theirs > 0), cosines, torch.zeros_like(made))


def _mixed(
    mix: TaskMix, queries: QueryTerms, passages: PassageTerms, raw: Callable[[str], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Inner products [q, n] under R', and norms of queries [q] and passages [n] as sums of positive terms."""
    shrink = mix.shrink()
    ours = (queries.along.square() @ shrink + queries.beyond / (1 - mix.mix)).sqrt().float()
    if not len(passages.beyond):  # a compact index: the norm of a row under R' is taken as spread evenly
        return raw("mixed"), ours, passages.whitened_norms * mix.stretch()
    made = product((queries.along * shrink).float(), passages.along.T)
    far = queries.far(mix)
    if len(far):
        made[far] += raw("beyond") / (1 - mix.mix)
    weights = shrink.float()
    squared = torch.cat([weights @ part.square() for part in passages.along.split(TOGETHER, 1)])
    return made, ours, (squared + passages.beyond / (1 - mix.mix)).sqrt()


class QueryScan:
    """Queries under one inner product, ready for a scan of an index.

    Pickled, it is what scores need: neither the run's whitening nor the queries' features.
    """

    def __init__(self, queries: QueryTerms, inner: InnerProduct) -> None:
        self._queries, self._inner = queries, inner
        if inner.mix is None:
            self._vectors = queries.vectors("none" if inner.hessian == "none" else "train")
        elif queries.whitening.sketch:
            self._vectors = queries.mixed_vectors(inner.mix)
        else:
            self._vectors = queries.vectors("beyond")[queries.far(inner.mix)]
        self._products = RowProducts(self._vectors)

    def __getstate__(self) -> tuple[QueryTerms, InnerProduct, Tensor]:
        inner = self._inner
        if inner.mix is not None:
            inner = replace(inner, mix=replace(inner.mix, subspace=inner.mix.subspace.for_passages()))
        return self._queries.for_scores(inner), inner, self._vectors

    def __setstate__(self, state: tuple[QueryTerms, InnerProduct, Tensor]) -> None:
        self._queries, self._inner, self._vectors = state
        self._products = RowProducts(self._vectors)

    def __len__(self) -> int:
        return len(self._queries.features)

    def scores(self, shard: Shard) -> Tensor:
        """Scores [q, n] of the passages of a shard."""
        whole = self._inner.mix is None or isinstance(shard.rows, SignRows)
        parts = (shard,) if whole else shard.parts(TOGETHER)
        return torch.cat([self._scores(part) for part in parts], 1)

    def _scores(self, shard: Shard) -> Tensor:
        passages = PassageTerms.of(shard, self._inner.subspace)
        return combine(self._inner, self._queries, passages, lambda _: self._products.of(shard.rows))
