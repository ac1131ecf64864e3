"""How the rows of a shard are encoded: two bytes a coordinate and a scale a row."""

from __future__ import annotations

import torch
from torch import Tensor

# A row whose norm is below this has squares that float32 cannot hold.
SQUARES_VANISH = 1e-12
TOGETHER = 64  # rows of a shard that are encoded or decoded at a time


def encode_rows(rows: Tensor) -> dict[str, Tensor]:
    """Encode rows [n, d] float32 as ``codes`` [n, d] float16 and ``scale`` [n] float32.

    A row is divided by its root mean square first, so that float16's range (6e-8 to 65504) always
    suffices: no coordinate exceeds the square root of d.  Relative error of a coordinate: 2^-11.
    """
    scale = row_norms(rows) / rows.shape[1] ** 0.5
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return {"codes": (rows / scale[:, None]).half(), "scale": scale}


def row_norms(rows: Tensor) -> Tensor:
    """Norms [n] float32 of rows [n, d] float32, of any size: their squares need not fit into float32."""
    norms: Tensor = rows.norm(dim=1)
    # the squares of small gradients vanish in float32, and those of large ones overflow
    rare = ~((norms > SQUARES_VANISH) & norms.isfinite())
    norms[rare] = torch.linalg.vector_norm(rows[rare], dim=1, dtype=torch.float64).float()
    return norms


def decode_rows(codes: Tensor, scale: Tensor) -> Tensor:
    """The inverse of ``encode_rows``: rows [n, d] float32, a copy."""
    return codes.to(torch.float32, copy=True).mul_(scale[:, None])


def encode_shard(rows: Tensor) -> dict[str, Tensor]:
    """``encode_rows`` a few rows at a time: what it makes on the way is as large as what it is given."""
    parts = [encode_rows(part) for part in rows.split(TOGETHER)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def decode_shard(codes: Tensor, scale: Tensor, into: Tensor) -> None:
    """``decode_rows`` into rows [n, d], a few at a time: they stay in the caches between both steps."""
    for part, code, size in zip(
        into.split(TOGETHER), codes.split(TOGETHER), scale.split(TOGETHER), strict=True
    ):
        part.copy_(code).mul_(size[:, None])
