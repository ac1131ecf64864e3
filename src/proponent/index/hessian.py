"""The Gauss-Newton Hessian approximation R_train: its sums, damping, whitening factor and spectrum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from proponent.products import product

# Rows of a block that are summed, converted or mirrored at a time: they stay in the caches, and of a triangle
# only what lies beyond it in them is wasted.
STRIP = 512


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
            for start in range(0, part.shape[1], STRIP):
                stop = start + STRIP
                self._sums[b][start:stop, :stop] += product(part[:, start:stop].T, part[:, :stop].T)
            self._fourth[b] += part.double().square().sum(1).square().sum()
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
            torch.linalg.cholesky(_damped(block, damping)).float()
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


def _damped(block: Tensor, damping: float) -> Tensor:
    damped = block.double()
    damped.diagonal().add_(damping * mean_eigenvalue(block))
    return damped


def split_blocks(features: Tensor, blocks: int) -> tuple[Tensor, ...]:
    """Views [n, w] of features [n, b * w], one a block."""
    return tuple(features.chunk(blocks, dim=1))


def whiten(features: Tensor, factors: tuple[Tensor, ...]) -> Tensor:
    """ψ = L⁻¹ φ of every block, for features [n, d], in the precision of the features."""
    parts = split_blocks(features, len(factors))
    return torch.cat([_solve(factor, part) for factor, part in zip(factors, parts, strict=True)], 1)


def _solve(factor: Tensor, part: Tensor) -> Tensor:
    """``L⁻¹ φ`` for features [n, w] by forward substitution, a tile of L at a time.

    All but the corners of L is multiplied, which is faster than solving.  A factor of less precision is
    converted on the way: a converted copy of it would cost more than the substitution.
    """
    psi = part.T.clone(memory_format=torch.contiguous_format)
    for start in range(0, len(factor), STRIP):
        rows = factor[start : start + STRIP]
        own = psi[start : start + STRIP]
        for before in range(0, start, STRIP):
            columns = slice(before, before + STRIP)
            own -= product(rows[:, columns].to(part.dtype), psi[columns].T)
        corner = rows[:, start : start + STRIP].to(part.dtype)
        own.copy_(torch.linalg.solve_triangular(corner, own, upper=False))
    return psi.T


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


def unpack_triangle(packed: Tensor) -> Tensor:
    """The inverse of ``pack_triangle``: a lower triangular block [w, w], zero above the diagonal."""
    width = int((2 * packed.numel() + 0.25) ** 0.5)
    block = torch.zeros(width, width, dtype=packed.dtype)
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
