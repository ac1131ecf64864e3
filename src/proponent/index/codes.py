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
    norm = rows.norm(dim=1)
    # the squares of small gradients vanish in float32, and those of large ones overflow
    rare = ~((norm > SQUARES_VANISH) & norm.isfinite())
    norm[rare] = torch.linalg.vector_norm(rows[rare], dim=1, dtype=torch.float64).float()
    scale = norm / rows.shape[1] ** 0.5
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return {"codes": (rows / scale[:, None]).half(), "scale": scale}


def decode_rows(codes: Tensor, scale: Tensor) -> Tensor:
    """The inverse of ``encode_rows``: rows [n, d] float32, a copy."""
    return codes.float() * scale[:, None]


def encode_shard(rows: Tensor) -> dict[str, Tensor]:
    """``encode_rows`` a few rows at a time: what it makes on the way is as large as what it is given."""
    parts = [encode_rows(part) for part in rows.split(TOGETHER)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def decode_shard(codes: Tensor, scale: Tensor) -> Tensor:
    """``decode_rows`` a few rows at a time, for the same reason."""
    rows = torch.empty(codes.shape)
    for part, code, size in zip(
        rows.split(TOGETHER), codes.split(TOGETHER), scale.split(TOGETHER), strict=True
    ):
        part.copy_(decode_rows(code, size))
    return rows
