"""Two-sided Gaussian projections, made from a seed (DESIGN 1.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from proponent.gradients.layers import Matrix


@dataclass(frozen=True)
class Projection:
    """The two sides of one matrix's projection, ``P_out G P_inᵀ``, as right factors.

    in_side: P_inᵀ [i, p].  out_side: P_outᵀ [o, p], the rows of several modules end to end.
    Entries are i.i.d. N(0, 1/p), which keeps squared norms in expectation, until moments are folded in.
    """

    in_side: Tensor
    out_side: Tensor


def gaussian_projection(matrix: Matrix, side: int, seed: int) -> Projection:
    """The projection of a matrix for a seed, float32 on the CPU.

    Drawn by NumPy's Philox, a counter-based generator, keyed by seed, matrix, side and p: the same
    numbers whatever the device, and independent ones for another p rather than a cut of a larger one.
    """
    in_side = _draw(f"{seed}/{matrix.name}/in/{side}", matrix.inputs, side)
    return Projection(in_side, _draw(f"{seed}/{matrix.name}/out/{side}", sum(matrix.outputs), side))


def pack_projections(projections: Mapping[str, Projection]) -> dict[str, Tensor]:
    """Projections by matrix name as named tensors ``NAME/in`` and ``NAME/out``, for a file."""
    sides = {f"{name}/in": value.in_side for name, value in projections.items()}
    return sides | {f"{name}/out": value.out_side for name, value in projections.items()}


def unpack_projections(tensors: Mapping[str, Tensor]) -> dict[str, Projection]:
    """The inverse of ``pack_projections``."""
    names = [key.removesuffix("/in") for key in tensors if key.endswith("/in")]
    return {name: Projection(tensors[f"{name}/in"], tensors[f"{name}/out"]) for name in names}


def _draw(key: str, rows: int, side: int) -> Tensor:
    words = np.frombuffer(hashlib.blake2b(key.encode(), digest_size=16).digest(), dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=words))
    values = generator.standard_normal((rows, side), dtype=np.float32) / np.float32(side**0.5)
    return torch.from_numpy(values)
