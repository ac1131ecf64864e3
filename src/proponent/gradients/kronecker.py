"""Kronecker-factored second moments of weight gradients: ``E[vec G vec Gᵀ] ≈ L ⊗ R / tr R``.

    L = E[G Gᵀ]  [o, o] of each module      R = E[Gᵀ G]  [i, i], summed over the modules of one input

These are Shampoo's statistics (Gupta, Koren & Singer, 2018); rank-one second moments are their diagonals.
The correction ``√tr R · L^(-1/2) G R^(-1/2)`` is two-sided, so it folds into the projections as theirs does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from proponent.gradients.layers import Matrix
from proponent.gradients.moments import SecondMoments, WholeFactors
from proponent.gradients.projection import Projection
from proponent.gradients.sweep import Sweep

# What is added to each factor's diagonal, relative to its mean eigenvalue.
DAMPING = 0.01
# Numbers of the factors that one sweep sums, 4 bytes each, once for every batch that runs beside others.
AT_ONCE = 2**27


@dataclass(frozen=True)
class KroneckerFactors:
    """The two factors of one matrix's second moment.

    left: L [o, o] of each module.  right: R [i, i].  Symmetric, float32, means over examples.
    """

    left: tuple[Tensor, ...]
    right: Tensor

    @property
    def moments(self) -> SecondMoments:
        """The rank-one second moments, for steps of an optimizer."""
        rows = torch.cat([factor.diagonal() for factor in self.left])
        return SecondMoments(rows.contiguous(), self.right.diagonal().contiguous())

    def fold(self, projection: Projection, damping: float = DAMPING) -> Projection:
        """``P_out L^(-1/2)`` and ``P_in R^(-1/2) √tr R``: projecting a gradient corrects it as well."""
        scale = self.right.double().trace().clamp_min(torch.finfo(torch.float64).tiny).sqrt()
        outside = projection.out_side.split([len(factor) for factor in self.left])
        parts = [inverse_root(f, damping) @ part.double() for f, part in zip(self.left, outside, strict=True)]
        inside = inverse_root(self.right, damping) @ projection.in_side.double() * scale
        return Projection(inside.float(), torch.cat(parts).float())


def inverse_root(factor: Tensor, damping: float) -> Tensor:
    """``(F + damping · μ I)^(-1/2)`` [w, w] float64, μ the mean eigenvalue of F; the identity for F = 0."""
    sigma, vectors = torch.linalg.eigh(factor.double())
    mean = float(sigma.mean())
    if mean <= 0:
        return torch.eye(len(factor), dtype=torch.float64)
    root: Tensor = (vectors / (sigma.clamp_min(0) + damping * mean).sqrt()) @ vectors.T
    return root


class KroneckerSums(WholeFactors):
    """Sums of G Gᵀ and Gᵀ G over examples; a capture of one batch as well as the sink.

    ``G Gᵀ = dᵀ (x xᵀ) d`` and ``Gᵀ G = xᵀ (d dᵀ) x``: no G is formed.
    """

    def __init__(self, matrices: Sequence[Matrix]) -> None:
        super().__init__()
        self._matrices = matrices
        self._sums = {name: torch.zeros(width, width) for m in matrices for name, width in _names(m)}

    def add(self, matrix: Matrix, x: Tensor, d: Tensor) -> None:
        """Add the products of the gradient of every example n that has a finite one."""
        across = (x @ x.transpose(1, 2)) @ d  # [n, t, o]
        along = torch.zeros_like(x)
        for part in d.split(matrix.outputs, 2):
            along += (part @ part.transpose(1, 2)) @ x  # [n, t, i]
        finite = (across * d).sum(1).isfinite().all(1) & (along * x).sum(1).isfinite().all(1)
        x, d, across, along = (values[finite].flatten(0, 1) for values in (x, d, across, along))
        parts = zip(d.split(matrix.outputs, 1), across.split(matrix.outputs, 1), strict=True)
        found = [*(part.T @ own for part, own in parts), x.T @ along]
        for (name, _), values in zip(_names(matrix), found, strict=True):
            self._sums[name] += values.cpu()

    def open(self, _: int) -> KroneckerSums:
        """Fresh sums for a batch."""
        return KroneckerSums(self._matrices)

    def take(self, _: Sequence[int], captured: KroneckerSums) -> None:
        """Add the sums of a batch."""
        for name, values in captured._sums.items():
            self._sums[name] += values

    def factors(self, examples: int) -> dict[str, KroneckerFactors]:
        """Means over ``examples`` gradients, by matrix name; the sums are used up."""

        def mean(name: str) -> Tensor:
            values = self._sums.pop(name).div_(examples)
            return (values + values.T) / 2

        found = {}
        for matrix in self._matrices:
            *left, right = (mean(name) for name, _ in _names(matrix))
            found[matrix.name] = KroneckerFactors(tuple(left), right)
        return found


def _names(matrix: Matrix) -> Iterator[tuple[str, int]]:
    """A name and the width of every factor of a matrix, that of its input last."""
    for module, outputs in zip(matrix.modules, matrix.outputs, strict=True):
        yield f"{module}/left", outputs
    yield f"{matrix.name}/right", matrix.inputs


def sample_kronecker(
    sweep: Sweep,
    rows: Sequence[Sequence[int]],
    starts: Sequence[int],
    projection: Callable[[Matrix], Projection],
    done: Callable[[Sequence[int]], None] | None = None,
) -> tuple[dict[str, SecondMoments], dict[str, Projection]]:
    """Rank-one second moments, and each matrix's projection with its factors folded in, by matrix name.

    The factors themselves are not kept: as many matrices are taken at a time, a sweep each, as memory allows.
    rows, starts, done: as of ``Sweep``, each row one example.
    """
    moments: dict[str, SecondMoments] = {}
    folded: dict[str, Projection] = {}
    for matrices in together(sweep.matrices):
        sums = KroneckerSums(matrices)
        replace(sweep, matrices=tuple(matrices))(rows, starts, [sums], done=done)
        for name, factors in sums.factors(len(rows)).items():
            moments[name] = factors.moments
            matrix = next(m for m in matrices if m.name == name)
            folded[name] = factors.fold(projection(matrix))
    return moments, folded


def factor_numbers(matrices: Sequence[Matrix]) -> int:
    """Numbers of the factors of some matrices."""
    return sum(width**2 for matrix in matrices for _, width in _names(matrix))


def together(matrices: Sequence[Matrix]) -> Iterator[list[Matrix]]:
    """The matrices in groups, a sweep each, whose factors have at most ``AT_ONCE`` numbers, or one alone."""
    group, size = list[Matrix](), 0
    for matrix in matrices:
        own = factor_numbers([matrix])
        if group and size + own > AT_ONCE:
            yield group
            group, size = [], 0
        group.append(matrix)
        size += own
    if group:
        yield group
