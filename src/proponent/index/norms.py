"""Norms of rows of any size."""

from __future__ import annotations

import torch
from torch import Tensor

# A row whose norm is below this has squares that float32 cannot hold.
SQUARES_VANISH = 1e-12


def row_norms(rows: Tensor) -> Tensor:
    """Norms [n] of rows [n, d] of any size, in their precision: their squares need not fit into float32."""
    norms: Tensor = rows.norm(dim=1)
    # the squares of small gradients vanish in float32, and those of large ones overflow
    rare = ~((norms > SQUARES_VANISH) & norms.isfinite())
    norms[rare] = torch.linalg.vector_norm(rows[rare], dim=1, dtype=torch.float64).to(norms.dtype)
    return norms
