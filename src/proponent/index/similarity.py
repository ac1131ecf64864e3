"""How alike passages are under the inner product of a method, with no pass of the model."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from proponent.index.codec import row_norms
from proponent.index.scores import InnerProduct
from proponent.index.search import Shard
from proponent.index.whitening import Whitening


def similarities(shards: Iterable[Shard], inner: InnerProduct, whitening: Whitening) -> Tensor:
    """Cosines [n, n] float64 of all passages of the shards with each other; 0 where a norm is 0.

    Under R⁻¹ of the inner product, whether it scales to unit norm or not.  Positive semi-definite, up to
    rounding.  All rows are decoded at once: 4 bytes a coordinate.
    """
    parts = [_coordinates(shard.rows.decode(), inner, whitening) for shard in shards]
    rows = torch.cat(parts) if parts else torch.empty(0, 0)
    return torch.nan_to_num((rows @ rows.T).double().clamp(-1, 1))


def _coordinates(psi: Tensor, inner: InnerProduct, whitening: Whitening) -> Tensor:
    """Unit vectors [n, d] of whitened rows [n, d], whose plain inner products are cosines under R⁻¹."""
    if inner.hessian == "none":
        psi = whitening.unwhiten(psi)
    elif inner.mix is not None:
        along, beyond = inner.mix.subspace.split(psi.double())
        scale = 1 / (1 - inner.mix.mix) ** 0.5
        psi = (inner.mix.subspace.join(along * inner.mix.shrink().sqrt()) + beyond * scale).float()
    unit: Tensor = psi / row_norms(psi)[:, None]
    return unit
