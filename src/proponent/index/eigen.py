"""Whitening along the first eigenvectors of R_train: what a compact run keeps of a block.

The first half of the directions carries nearly all that a score tells where R_train is known (docs/results),
so that signs are better spent on them than on a sketch of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from proponent.index.damping import Damping, damped_eigenvalues
from proponent.index.hessian import HessianBlock
from proponent.products import product


@dataclass(frozen=True)
class EigenWhitening:
    """The whitening of a block along its first eigenvectors, ψ = Λ^(-1/2) Uᵀ φ.

    basis: U [w, r], eigenvectors of the largest eigenvalues.  eigenvalues: [w] of the undamped block,
    descending.  damping: what was done to it.
    """

    basis: Tensor
    eigenvalues: Tensor
    damping: Damping

    @classmethod
    def of(cls, block: HessianBlock, eigenvalues: Tensor, damping: Damping, kept: int) -> EigenWhitening:
        """The first ``kept`` directions of a block whose eigenvalues and damping are known."""
        _, vectors = torch.linalg.eigh(block.matrix)
        return cls(vectors[:, -kept:].flip(1).contiguous(), eigenvalues, damping)

    def whiten(self, features: Tensor) -> Tensor:
        """ψ [n, r] of features φ [n, w], in their precision."""
        return self._along(features) / self._roots.to(features.dtype)

    def unwhiten(self, whitened: Tensor) -> Tensor:
        """What of φ [n, w] lies along the eigenvectors, of whitened features ψ [n, r]."""
        return product(whitened * self._roots.to(whitened.dtype), self.basis.to(whitened.dtype))

    def adjoint(self, features: Tensor) -> Tensor:
        """``Λ^(1/2) Uᵀ φ`` [n, r] of features [n, w]: with ψ_m the product of what of both lies along U."""
        return self._along(features) * self._roots.to(features.dtype)

    def pull_back(self, whitened: Tensor) -> Tensor:
        """``U Λ^(-1/2) ψ`` [n, w] float64 of vectors ψ [n, r]: its inner product with φ_m is ``ψ · ψ_m``."""
        return product(whitened.double() / self._roots, self.basis.double())

    def after(self, factor: Tensor) -> Tensor:
        """The matrix M [r, w] from the whitening of the block by its factor L [w, w]: ``ψ = (L⁻¹ φ) Mᵀ``."""
        turned = product(self.basis.T.double(), factor.double().T) / self._roots[:, None]
        return turned.float()

    @property
    def damped_eigenvalues(self) -> Tensor:
        """Eigenvalues [w] of the whole damped block, descending."""
        return damped_eigenvalues(self.eigenvalues, self.damping.pack())

    @property
    def _roots(self) -> Tensor:
        return self.damped_eigenvalues[: self.basis.shape[1]].double().sqrt()

    def _along(self, features: Tensor) -> Tensor:
        return product(features, self.basis.T.to(features.dtype))

    def pack(self) -> dict[str, Tensor]:
        """Named tensors for a file."""
        return {"basis": self.basis, "eigenvalues": self.eigenvalues, "damping": self.damping.pack()}

    @classmethod
    def unpack(cls, tensors: Mapping[str, Tensor]) -> EigenWhitening:
        """The inverse of ``pack``; of tensors of a file, which may change meanwhile, copies are kept."""
        basis, eigenvalues = tensors["basis"].clone(), tensors["eigenvalues"].clone()
        return cls(basis, eigenvalues, Damping.unpack(tensors["damping"]))
