"""How alike passages are under the inner product of a method, with no pass of the model."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from proponent.errors import InputError
from proponent.index.norms import row_norms
from proponent.index.scores import InnerProduct
from proponent.index.search import Shard
from proponent.index.whitening import Whitening

TOGETHER = 256  # rows whose coordinates are made at a time
SAME = 1e-5  # below a cosine of 1 by less than this, rows differ by no more than rounding


def unit_rows(shards: Iterable[Shard], inner: InnerProduct, whitening: Whitening) -> Tensor:
    """Unit vectors [n, d] float32 of all passages of the shards, whose products are cosines under R⁻¹.

    R is that of the inner product, whether it scales to unit norm or not; a row without a norm is 0.  Of a
    compact index rows are signs [n, m], whose cosines are 2/π times the arcsine of the rows' on average, and
    a task mix, which changes lengths along few of all directions, is left out.
    Raises InputError for R = I in a compact index, which keeps no features to compare without R_train.
    """
    parts = [
        _unit(part.rows.decode(), inner, whitening) for shard in shards for part in shard.parts(TOGETHER)
    ]
    return torch.cat(parts) if parts else torch.empty(0, 0)


def cosines(rows: Tensor) -> Tensor:
    """Cosines [n, n] float64 of unit rows [n, d], 1 for rows that are the same but for rounding."""
    found = (rows @ rows.T).double()
    return torch.where(found > 1 - SAME, torch.ones_like(found), found.clamp(min=-1))


def similarities(shards: Iterable[Shard], inner: InnerProduct, whitening: Whitening) -> Tensor:
    """Cosines [n, n] of all passages of the shards with each other; their rows are held in memory."""
    return cosines(unit_rows(shards, inner, whitening))


def _unit(psi: Tensor, inner: InnerProduct, whitening: Whitening) -> Tensor:
    if inner.hessian == "none" and whitening.sketch is not None:
        raise InputError(
            "a compact index compares passages with each other under R_train alone, and this method has no "
            "Hessian; choose another method or the full run"
        )
    if inner.hessian == "none":
        psi = whitening.unwhiten(psi)
    elif inner.mix is not None and whitening.sketch is None:
        along, beyond = inner.mix.subspace.split(psi.double())
        scale = 1 / (1 - inner.mix.mix) ** 0.5
        psi = (inner.mix.subspace.join(along * inner.mix.shrink().sqrt()) + beyond * scale).float()
    return torch.nan_to_num(psi / row_norms(psi)[:, None])
