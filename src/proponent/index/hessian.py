"""The Gauss-Newton Hessian approximation R_train: its sums, damping, whitening factor and spectrum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from proponent.index.codes import row_norms
from proponent.products import product

# Rows of a block that are summed, converted or mirrored at a time: they stay in the caches, and of a triangle
# only what lies beyond it in them is wasted.
STRIP = 512
# A corner of a Cholesky factor that is inverted; larger ones are halved.
CORNER = 128


class HessianSums:
    """Sums φφᵀ block by block over features that arrive in pieces; memory b · w² floats.

    Only the lower triangles are summed, in strips of ``STRIP`` rows.
    """

    def __init__(self, blocks: int, width: int) -> None:
        self._sums = [torch.zeros(width, width) for _ in range(blocks)]
        self._fourth = torch.zeros(blocks, dtype=torch.float64)
        self._count = 0

    def add(self, features: Tensor) -> None:
        """Add features [n, b * w] float32."""
        for b, part in enumerate(split_blocks(features, len(self._sums))):
            columns = part.T.contiguous()  # turned once: a product would copy a view with gaps for each strip
            for start in range(0, len(columns), STRIP):
                stop = start + STRIP
                self._sums[b][start:stop, :stop] += product(columns[start:stop], columns[:stop])
            self._fourth[b] += row_norms(part).double().pow(4).sum()
        self._count += len(features)

    def mean(self) -> Hessian:
        """R = mean of φφᵀ over all features added; uses up the sums."""
        count = max(1, self._count)
        blocks = tuple(mirror(total.div_(count)) for total in self._sums)
        return Hessian(blocks, self._count, self._fourth / count)


@dataclass(frozen=True)
class Hessian:
    """A block-diagonal autocorrelation of features, undamped.

    blocks: b symmetric matrices [w, w] float32.  count: features that it is the mean over.
    fourth: mean of ‖φ‖⁴ in each block [b], which tells how noisy R is.
    """

    blocks: tuple[Tensor, ...]
    count: int
    fourth: Tensor

    def factors(self, dampings: Tensor) -> tuple[Tensor, ...]:
        """Lower Cholesky factors L [w, w] float32 of ``R + damping · mean eigenvalue · I``, by block.

        dampings: of each block [b].  ``W = L⁻¹`` whitens: ``WᵀW = (R + εI)⁻¹``.  Factored in float64, since
        a small damping leaves a condition number that float32 does not survive.
        """
        return tuple(
            _factor(block, damping).float()
            for block, damping in zip(self.blocks, dampings.tolist(), strict=True)
        )

    def eigenvalues(self) -> Tensor:
        """Eigenvalues [b, w] of the undamped blocks, descending, >= 0."""
        return torch.stack([torch.linalg.eigvalsh(block).flip(0).clamp_min(0) for block in self.blocks])


def mean_eigenvalue(block: Tensor) -> float:
    """Mean eigenvalue of a block [w, w], its trace over w; 1 for a block of zeros, which has no scale."""
    mean = float(block.diagonal().double().mean())
    return mean if mean > 0 else 1.0


def damped_eigenvalues(eigenvalues: Tensor, dampings: Tensor) -> Tensor:
    """Eigenvalues [b, w] of the blocks with dampings [b], from those of the undamped ones."""
    mean = eigenvalues.mean(1, keepdim=True)
    mean = torch.where(mean > 0, mean, torch.ones_like(mean))
    return eigenvalues + dampings[:, None].to(mean.dtype) * mean


def _factor(block: Tensor, damping: float) -> Tensor:
    """L [w, w] float64 of one damped block, made in the memory of that block's float64 copy."""
    # symmetric, so turned it is the same, but by columns as LAPACK wants it: else torch makes another copy
    damped = block.double().T
    damped.diagonal().add_(damping * mean_eigenvalue(block))
    torch.linalg.cholesky(damped, out=damped)
    return damped


def split_blocks(features: Tensor, blocks: int) -> tuple[Tensor, ...]:
    """Views [n, w] of features [n, b * w], one a block."""
    return tuple(features.chunk(blocks, dim=1))


def whiten(features: Tensor, factors: tuple[Tensor, ...]) -> Tensor:
    """ψ = L⁻¹ φ of every block, for features [n, d], in the precision of the features."""
    psi = features.clone()
    for factor, part in zip(factors, split_blocks(psi, len(factors)), strict=True):
        whiten_block(part, factor)
    return psi


def whiten_block(features: Tensor, factor: Tensor) -> None:
    """``whiten`` of one block, features [n, w], in place."""
    columns = features.T.clone(memory_format=torch.contiguous_format)
    _substitute(factor, columns)
    features.copy_(columns.T)


def _substitute(factor: Tensor, columns: Tensor) -> None:
    """Forward substitution ``L⁻¹ X`` for X [w, n], in place, in halves: nearly all of it is large products.

    The corners are inverted, which is faster than solving and no less exact: an inverse in float64 is.
    A factor of less precision is converted a strip at a time: larger copies are fresh memory each.
    """
    width = len(factor)
    if width <= CORNER:
        one = torch.eye(width, dtype=torch.float64)
        inverse = torch.linalg.solve_triangular(factor.double(), one, upper=False)
        columns.copy_(product(inverse.to(columns.dtype), columns.T))
        return
    half = width // 2
    _substitute(factor[:half, :half], columns[:half])
    for rows, own in zip(factor[half:, :half].split(STRIP), columns[half:].split(STRIP), strict=True):
        own -= product(rows.to(columns.dtype), columns[:half].T)
    _substitute(factor[half:, half:], columns[half:])


def correlate(features: Tensor, factors: tuple[Tensor, ...]) -> Tensor:
    """``Lᵀ φ`` of every block, for features [n, d]: then ``(Lᵀ φ_q) · ψ_m = φ_q · φ_m``."""
    parts = [
        product(part, factor.T)
        for factor, part in zip(factors, split_blocks(features, len(factors)), strict=True)
    ]
    return torch.cat(parts, 1)


def packed_size(width: int) -> int:
    """Entries w (w + 1) / 2 of a lower triangle [w, w]."""
    return width * (width + 1) // 2


def pack_triangle(block: Tensor) -> Tensor:
    """The lower triangle of a block [w, w], row by row, [w * (w + 1) / 2]."""
    packed = torch.empty(packed_size(len(block)), dtype=block.dtype)
    for part, row in _triangle_rows(packed, block):
        part[:] = row
    return packed


def unpack_triangle(packed: Tensor, into: Tensor | None = None) -> Tensor:
    """The inverse of ``pack_triangle``: a lower triangular block [w, w], zero above the diagonal.

    into: a block of that kind to overwrite, for fresh memory takes longer than the triangle.
    """
    width = int((2 * packed.numel() + 0.25) ** 0.5)
    block = torch.zeros(width, width, dtype=packed.dtype) if into is None else into
    for part, row in _triangle_rows(packed, block):
        row[:] = part
    return block


def _triangle_rows(packed: Tensor, block: Tensor) -> Iterator[tuple[Any, Any]]:
    """Each row of a packed triangle and of its block: views of NumPy, of which thousands cost little."""
    flat, square, start = packed.numpy(), block.numpy(), 0
    for row in range(len(square)):
        yield flat[start : start + row + 1], square[row, : row + 1]
        start += row + 1


def unpack_triangles(name: str, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """All blocks [w, w] of a file that keeps their triangles as ``NAME/B``."""
    count = sum(key.startswith(f"{name}/") for key in tensors)
    return tuple(unpack_triangle(tensors[f"{name}/{b}"]) for b in range(count))


def mirror(triangle: Tensor) -> Tensor:
    """Make a matrix [w, w] symmetric, in place, from its lower triangle, which is all that is read of it."""
    for start in range(0, len(triangle), STRIP):
        stop = start + STRIP
        # a strip at a time: reading all of a large matrix by columns is slow
        triangle[start:stop, stop:] = triangle[stop:, start:stop].T
        corner = triangle[start:stop, start:stop].tril_()
        corner += corner.tril(-1).T
    return triangle
