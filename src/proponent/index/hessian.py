"""The Gauss-Newton Hessian approximation R_train, a block at a time: its sums and its spectrum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from proponent.index.norms import row_norms
from proponent.products import product

# Rows of a block that are summed or mirrored at a time: they stay in the caches.
STRIP = 512


@dataclass
class HessianSum:
    """Sums over features φ of one block: φφᵀ and ‖φ‖⁴.

    total: [w, w] float32, of which the lower triangle counts; it is summed in strips of ``STRIP`` rows.
    fourth: Σ‖φ‖⁴.  count: features summed.
    """

    total: Tensor
    fourth: float = 0.0
    count: int = 0

    @classmethod
    def empty(cls, width: int) -> HessianSum:
        """A sum of nothing."""
        return cls(torch.zeros(width, width))

    def add(self, features: Tensor) -> None:
        """Add features [n, w] float32."""
        columns = features.T.contiguous()  # turned once: a product would copy a view with gaps for each strip
        for start in range(0, len(columns), STRIP):
            stop = start + STRIP
            self.total[start:stop, :stop] += product(columns[start:stop], columns[:stop])
        self.fourth += float(row_norms(features).double().pow(4).sum())
        self.count += len(features)

    def merge(self, other: HessianSum) -> None:
        """Add the sums over other features."""
        self.total += other.total
        self.fourth += other.fourth
        self.count += other.count

    def mean(self) -> HessianBlock:
        """R, the mean of φφᵀ; the sums are overwritten."""
        count = max(1, self.count)
        return HessianBlock(mirror(self.total.div_(count)), self.count, self.fourth / count)

    def pack(self) -> dict[str, Tensor]:
        """Named tensors for a file."""
        return _pack(self.total, self.fourth, self.count)

    @classmethod
    def unpack(cls, tensors: Mapping[str, Tensor]) -> HessianSum:
        """The inverse of ``pack``."""
        triangle = unpack_triangle(tensors["triangle"])
        return cls(triangle, float(tensors["fourth"]), int(tensors["count"].item()))


@dataclass(frozen=True)
class HessianBlock:
    """One diagonal block of the autocorrelation R of features, undamped.

    matrix: symmetric [w, w] float32.  count: features that it is the mean over.
    fourth: mean of ‖φ‖⁴, which tells how noisy R is.
    """

    matrix: Tensor
    count: int
    fourth: float

    @property
    def mean_eigenvalue(self) -> float:
        """The trace over w; 1 for a block of zeros, which has no scale."""
        mean = float(self.matrix.diagonal().double().mean())
        return mean if mean > 0 else 1.0

    def eigenvalues(self) -> Tensor:
        """Eigenvalues [w], descending, >= 0."""
        values: Tensor = torch.linalg.eigvalsh(self.matrix)
        return values.flip(0).clamp_min(0)

    def pack(self) -> dict[str, Tensor]:
        """Named tensors for a file."""
        return _pack(self.matrix, self.fourth, self.count)

    @classmethod
    def unpack(cls, tensors: Mapping[str, Tensor]) -> HessianBlock:
        """The inverse of ``pack``."""
        found = HessianSum.unpack(tensors)
        return cls(mirror(found.total), found.count, found.fourth)


@dataclass
class TraceSum:
    """Sum over features φ of one block of ‖φ‖²: all that an R needs that is taken for the identity.

    width: w.  squared: Σ‖φ‖².  count: features summed.
    """

    width: int
    squared: float = 0.0
    count: int = 0

    def add(self, features: Tensor) -> None:
        """Add features [n, w] float32."""
        self.squared += float(row_norms(features).double().square().sum())
        self.count += len(features)

    def merge(self, other: TraceSum) -> None:
        """Add the sum over other features."""
        self.squared += other.squared
        self.count += other.count

    def mean(self) -> TraceSum:
        """What is kept of R: the sum itself, which knows its count."""
        return self

    @property
    def mean_eigenvalue(self) -> float:
        """The trace of R over w; 1 for a block of zeros, which has no scale."""
        mean = self.squared / max(1, self.count) / self.width
        return mean if mean > 0 else 1.0

    def pack(self) -> dict[str, Tensor]:
        """Named tensors for a file."""
        numbers = torch.tensor([self.width, self.squared, self.count], dtype=torch.float64)
        return {"trace": numbers}

    @classmethod
    def unpack(cls, tensors: Mapping[str, Tensor]) -> TraceSum:
        """The inverse of ``pack``."""
        width, squared, count = tensors["trace"].tolist()
        return cls(int(width), squared, int(count))


def added(parts: Iterable[Mapping[str, Tensor]]) -> HessianSum | TraceSum:
    """Sums of one kind, packed, added in their order; at least one."""
    total: Any = None
    for tensors in parts:
        part: Any = (TraceSum if "trace" in tensors else HessianSum).unpack(tensors)
        if total is None:
            total = part
        else:
            total.merge(part)
    assert isinstance(total, HessianSum | TraceSum)
    return total


def _pack(matrix: Tensor, fourth: float, count: int) -> dict[str, Tensor]:
    numbers = torch.tensor([fourth, count], dtype=torch.float64)  # which holds every count below 2^53
    return {"triangle": pack_triangle(matrix), "fourth": numbers[:1], "count": numbers[1:].clone()}


def split_blocks(features: Tensor, blocks: int) -> tuple[Tensor, ...]:
    """Views [n, w] of features [n, b * w], one a block."""
    return tuple(features.chunk(blocks, dim=1))


def pack_triangle(block: Tensor) -> Tensor:
    """The lower triangle of a block [w, w], row by row, [w * (w + 1) / 2]."""
    packed = torch.empty(len(block) * (len(block) + 1) // 2, dtype=block.dtype)
    for part, row in _triangle_rows(packed, block):
        part[:] = row
    return packed


def unpack_triangle(packed: Tensor, into: Tensor | None = None) -> Tensor:
    """The inverse of ``pack_triangle``, zero above the diagonal; into: such a block to overwrite."""
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


def mirror(triangle: Tensor) -> Tensor:
    """Make a matrix [w, w] symmetric, in place, from its lower triangle, which is all that is read of it."""
    for start in range(0, len(triangle), STRIP):
        stop = start + STRIP
        # a strip at a time: reading all of a large matrix by columns is slow
        triangle[start:stop, stop:] = triangle[stop:, start:stop].T
        corner = triangle[start:stop, start:stop].tril_()
        corner += corner.tril(-1).T
    return triangle
