"""How the rows of a shard are encoded: two bytes a coordinate and a scale a row."""

from __future__ import annotations

import torch
from torch import Tensor


def encode_rows(rows: Tensor) -> dict[str, Tensor]:
    """Encode rows [n, d] float32 as ``codes`` [n, d] float16 and ``scale`` [n] float32.

    A row is divided by its root mean square first, so that float16's range (6e-8 to 65504) always
    suffices: no coordinate exceeds the square root of d.  Relative error of a coordinate: 2^-11.
    """
    # summed in float64: the squares of small gradients vanish in float32
    scale = (torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64) / rows.shape[1] ** 0.5).float()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return {"codes": (rows / scale[:, None]).half(), "scale": scale}


def decode_rows(codes: Tensor, scale: Tensor) -> Tensor:
    """The inverse of ``encode_rows``: rows [n, d] float32, a copy."""
    return codes.float() * scale[:, None]
