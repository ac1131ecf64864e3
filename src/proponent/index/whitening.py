"""Whitening by the damped R_train: ψ = W φ with WᵀW = R⁻¹.  Only this file knows that W is triangular.

Or by R_train taken for a multiple of the identity, for features that are nearly white already: then W is a
number a block, no matrix is formed, and a block may be of any width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from proponent.index.damping import Damping, damped_eigenvalues, damping_of
from proponent.index.eigen import EigenWhitening
from proponent.index.hessian import HessianBlock, TraceSum, pack_triangle, split_blocks, unpack_triangle
from proponent.index.sketch import Sketch
from proponent.products import product

# A corner of a Cholesky factor that is inverted; larger ones are halved.
CORNER = 128
STRIP = 512  # rows of a factor that are converted at a time


@dataclass(frozen=True)
class BlockWhitening:
    """The whitening of one block, ψ = L⁻¹ φ.

    factor: lower Cholesky factor L [w, w] of the damped block, float32.
    eigenvalues: [w] of the undamped block, descending.  damping: what was done to it.
    """

    factor: Tensor
    eigenvalues: Tensor
    damping: Damping

    @classmethod
    def of(
        cls, block: HessianBlock, damping: float | str, eigenvalues: Tensor | None = None
    ) -> BlockWhitening:
        """The whitening of a block; eigenvalues: of the block, where they are known already.

        Factored in float64, since a small damping leaves a condition number that float32 does not survive.
        Raises InputError for a damping that cannot be used.
        """
        chosen = damping_of(damping, block)
        sigma = block.eigenvalues() if eigenvalues is None else eigenvalues
        # its transpose is the same matrix by columns, as LAPACK wants it: else torch makes another copy
        damped = block.matrix.double().mul_(chosen.keep).T
        damped.diagonal().add_(chosen.ridge * block.mean_eigenvalue)
        torch.linalg.cholesky(damped, out=damped)
        return cls(damped.float(), sigma, chosen)

    def whiten(self, features: Tensor) -> Tensor:
        """ψ [n, w] of features φ [n, w], in their precision."""
        columns = features.T.clone(memory_format=torch.contiguous_format)
        _substitute(self.factor, columns)
        return columns.T

    def unwhiten(self, whitened: Tensor) -> Tensor:
        """φ [n, w] of whitened features ψ [n, w]: the inverse of ``whiten``."""
        return product(whitened, self.factor.to(whitened.dtype))

    def adjoint(self, features: Tensor) -> Tensor:
        """``W⁻ᵀ φ`` [n, w] of features [n, w]: its inner product with ψ_m is ``φ · φ_m``."""
        return product(features, self.factor.T.to(features.dtype))

    def pull_back(self, whitened: Tensor) -> Tensor:
        """``Wᵀ ψ`` [n, w] float64 of vectors ψ [n, w]: its inner product with φ_m is ``ψ · ψ_m``."""
        turned = self.factor.double().T
        found: Tensor = torch.linalg.solve_triangular(turned, whitened.double().T, upper=True)
        return found.T

    def after(self, other: BlockWhitening) -> Tensor:
        """The matrix M [w, w] from the other whitening's coordinates to these: ``ψ = ψ_other Mᵀ``."""
        factors = (self.factor.double(), other.factor.double())
        matrix: Tensor = torch.linalg.solve_triangular(*factors, upper=False)
        return matrix.float()

    @property
    def damped_eigenvalues(self) -> Tensor:
        """Eigenvalues [w] of the damped block, descending."""
        return damped_eigenvalues(self.eigenvalues, self.damping.pack())

    def pack(self) -> dict[str, Tensor]:
        """Named tensors for a file."""
        factor = pack_triangle(self.factor)
        return {"factor": factor, "eigenvalues": self.eigenvalues, "damping": self.damping.pack()}

    @classmethod
    def unpack(cls, tensors: Mapping[str, Tensor], into: Tensor | None = None) -> BlockWhitening:
        """The inverse of ``pack``, of copies; into: as of ``unpack_triangle``."""
        factor, damping = unpack_triangle(tensors["factor"], into), Damping.unpack(tensors["damping"])
        return cls(factor, tensors["eigenvalues"].clone(), damping)


@dataclass(frozen=True)
class ScaledIdentity:
    """The whitening of a block whose R is taken for μ I: ψ = φ / √μ.

    mean: μ > 0, the mean eigenvalue of R.  width: w.
    """

    mean: float
    width: int

    def whiten(self, features: Tensor) -> Tensor:
        """ψ [n, w] of features φ [n, w], in their precision."""
        return features / math.sqrt(self.mean)

    def unwhiten(self, whitened: Tensor) -> Tensor:
        """φ [n, w] of whitened features ψ [n, w]."""
        return whitened * math.sqrt(self.mean)

    def adjoint(self, features: Tensor) -> Tensor:
        """``W⁻ᵀ φ`` [n, w] of features [n, w]."""
        return features * math.sqrt(self.mean)

    def pull_back(self, whitened: Tensor) -> Tensor:
        """``Wᵀ ψ`` [n, w] float64 of vectors ψ [n, w]."""
        return whitened.double() / math.sqrt(self.mean)

    @property
    def damped_eigenvalues(self) -> Tensor:
        """Eigenvalues [w] of μ I."""
        return torch.full((self.width,), self.mean)

    def pack(self) -> dict[str, Tensor]:
        """Named tensors for a file."""
        return {"identity": torch.tensor([self.mean, self.width], dtype=torch.float64)}

    @classmethod
    def unpack(cls, tensors: Mapping[str, Tensor]) -> ScaledIdentity:
        """The inverse of ``pack``."""
        mean, width = tensors["identity"].tolist()
        return cls(mean, int(width))


AnyWhitening = BlockWhitening | EigenWhitening | ScaledIdentity


def whitening_of(
    tensors: Mapping[str, Tensor], damping: float | str | None
) -> BlockWhitening | ScaledIdentity:
    """The whitening of a block of R in a file; damping: of R, None where only its trace is there."""
    if damping is None:
        trace = TraceSum.unpack(tensors)
        return ScaledIdentity(trace.mean_eigenvalue, trace.width)
    return BlockWhitening.of(HessianBlock.unpack(tensors), damping)


def unpack_block(tensors: Mapping[str, Tensor], into: Tensor | None = None) -> AnyWhitening:
    """The whitening that a file of one block holds; into: as of ``unpack_triangle``."""
    if "basis" in tensors:
        return EigenWhitening.unpack(tensors)
    if "identity" in tensors:
        return ScaledIdentity.unpack(tensors)
    return BlockWhitening.unpack(tensors, into)


@dataclass(frozen=True)
class Whitening:
    """The whitening of all blocks; for a compact index also the sketch S whose signs its rows are."""

    blocks: tuple[AnyWhitening, ...]
    sketch: Sketch | None = None

    def __len__(self) -> int:
        """Number of blocks b."""
        return len(self.blocks)

    def whiten(self, features: Tensor) -> Tensor:
        """ψ [n, d] of features φ [n, d], in their precision."""
        return self._by_block(features, [block.whiten for block in self.blocks])

    def unwhiten(self, whitened: Tensor) -> Tensor:
        """φ [n, d] of whitened features ψ [n, d]."""
        return self._by_block(whitened, [block.unwhiten for block in self.blocks])

    def adjoint(self, features: Tensor) -> Tensor:
        """``W⁻ᵀ φ`` [n, d] of features [n, d]: its inner product with ψ_m is ``φ · φ_m``."""
        return self._by_block(features, [block.adjoint for block in self.blocks])

    def pull_back(self, whitened: Tensor) -> Tensor:
        """``Wᵀ ψ`` [n, d] float64 of vectors ψ [n, d]: its inner product with φ_m is ``ψ · ψ_m``."""
        return self._by_block(whitened, [block.pull_back for block in self.blocks])

    @property
    def eigenvalues(self) -> Tensor:
        """Eigenvalues [b, w] of the damped R_train, descending in each block."""
        return torch.stack([block.damped_eigenvalues for block in self.blocks])

    def _by_block(self, rows: Tensor, functions: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        parts = split_blocks(rows, len(self.blocks))
        return torch.cat([function(part) for function, part in zip(functions, parts, strict=True)], 1)


@dataclass(frozen=True)
class Rewhitening:
    """Takes rows from one whitening to another: one matrix [w, w] a block, made once."""

    matrices: tuple[Tensor, ...]

    @classmethod
    def between(cls, old: Sequence[BlockWhitening], new: Sequence[BlockWhitening]) -> Rewhitening:
        """From ``old`` to ``new``, of the same R, block by block."""
        return cls(tuple(to.after(start) for to, start in zip(new, old, strict=True)))

    def __call__(self, whitened: Tensor) -> Tensor:
        """Rows [n, d] in the new coordinates."""
        parts = split_blocks(whitened, len(self.matrices))
        return torch.cat([product(part, m) for part, m in zip(parts, self.matrices, strict=True)], 1)


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
