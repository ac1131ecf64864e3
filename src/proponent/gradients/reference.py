"""EK-FAC influence for small models, the slow and obvious way: every gradient is formed.

    A = E[x_t x_tᵀ]  [i, i]     S = E[d_t d_tᵀ]  [o, o]      over tokens t; Q_A, Q_S their eigenvectors
    Λ = E[(Q_Sᵀ G Q_A)²]  [o, i]                             over passages: the eigenvalues, corrected
    influence of m on q = ⟨Q_Sᵀ G_q Q_A / (Λ + λ), Q_Sᵀ G_m Q_A⟩,   λ = 0.1 · mean Λ

after George et al., 2018, and Grosse et al., *Studying Large Language Model Generalization with Influence
Functions*, 2023.  A, S and Λ are of gradients towards labels that are drawn from the model's own predictions,
so that they stand for the Gauss–Newton Hessian; G_q and G_m are of the tokens that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from proponent.gradients.backprop import Batch, backpropagate, predicting
from proponent.gradients.layers import Matrix
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import WholeFactors
from proponent.gradients.sweep import captured

DAMPING = 0.1  # λ, relative to the mean of Λ in each module
GRADIENT_BYTES = 2**30  # of the queries' gradients that are held at a time

Rows = Sequence[Sequence[int]]


class _Factors(WholeFactors):
    """A capture of one row: the inputs x [t, i] of every matrix and the gradients d [t, o] at its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, matrix: Matrix, x: Tensor, d: Tensor) -> None:
        """Keep them."""
        self.of[matrix.name] = (x[0].cpu(), d[0].cpu())


@dataclass(frozen=True)
class Eigenbasis:
    """Where one matrix's part of the Hessian is taken to be diagonal.

    inside: Q_A [i, i].  outside: Q_S [o, o], of each module by itself.  values: Λ [o, i], not damped.
    """

    inside: Tensor
    outside: Tensor
    values: Tensor

    def turned(self, x: Tensor, d: Tensor) -> Tensor:
        """``Q_Sᵀ G Q_A`` [o, i] of a gradient ``G = dᵀ x``."""
        return (d @ self.outside).T @ (x @ self.inside)


@dataclass(frozen=True)
class EKFAC:
    """Influence by an eigenvalue-corrected Kronecker factorization of a model's Gauss–Newton Hessian.

    bases: one of each matrix.  damping: λ, relative to the mean of Λ in each module.
    """

    model: LanguageModel
    matrices: tuple[Matrix, ...]
    bases: dict[str, Eigenbasis]
    damping: float = DAMPING

    @classmethod
    def of(
        cls, model: LanguageModel, matrices: tuple[Matrix, ...], rows: Rows, starts: Sequence[int], seed: int
    ) -> EKFAC:
        """Fit it on token rows, each an example scored from its start; seed: of the labels that are drawn."""
        inside = {m.name: torch.zeros(m.inputs, m.inputs, dtype=torch.float64) for m in matrices}
        outside = {m.name: torch.zeros(2 * (sum(m.outputs),), dtype=torch.float64) for m in matrices}
        for factors in _drawn(model, matrices, rows, starts, seed):
            for name, (x, d) in factors.items():
                inside[name] += x.double().T @ x.double()
                outside[name] += d.double().T @ d.double()
        bases = {m.name: _basis(m, inside[m.name], outside[m.name]) for m in matrices}
        for factors in _drawn(model, matrices, rows, starts, seed):
            for name, (x, d) in factors.items():
                bases[name].values.add_(bases[name].turned(x, d).square(), alpha=1 / len(rows))
        return cls(model, matrices, bases)

    def roots(self) -> dict[str, Tensor]:
        """``√(Λ + λ)`` [o, i] of each matrix."""
        found = {}
        for matrix in self.matrices:
            modules = self.bases[matrix.name].values.split(matrix.outputs)
            damped = [(part + self.damping * part.mean()).sqrt() for part in modules]
            found[matrix.name] = torch.cat(damped).clamp_min(torch.finfo(torch.float32).tiny)
        return found

    def products(
        self, queries: tuple[Rows, Sequence[int]], passages: tuple[Rows, Sequence[int]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Influences [q, n] of passages on queries, and ``√⟨G, (H + λ)⁻¹ G⟩`` of each, [q] and [n]; float64.

        queries, passages: token rows and their starts.
        """
        roots, products, ours, theirs = self.roots(), [], [], []
        for asked in self._groups(*queries, roots, GRADIENT_BYTES):
            groups = list(self._against(asked, passages, roots))
            products.append(torch.cat([made for made, _ in groups], 1))
            theirs = [norms for _, norms in groups]
            ours.append(asked.norm(dim=1))
        return torch.cat(products).double(), torch.cat(ours).double(), torch.cat(theirs).double()

    def _against(
        self, asked: Tensor, passages: tuple[Rows, Sequence[int]], roots: dict[str, Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Products [q, m] of whitened gradients of queries with those of passages, and these' norms [m]."""
        for group in self._groups(*passages, roots, GRADIENT_BYTES // 4):
            yield asked @ group.T, group.norm(dim=1)

    def _groups(
        self, rows: Rows, starts: Sequence[int], roots: dict[str, Tensor], most: int
    ) -> Iterator[Tensor]:
        """Whitened gradients [m, Σ o·i] of rows, as many together as take so many bytes, or one."""
        at_once = max(1, most // (4 * sum(root.numel() for root in roots.values())))
        for first in range(0, len(rows), at_once):
            part = slice(first, first + at_once)
            yield torch.stack(list(self._whitened(rows[part], starts[part], roots)))

    def _whitened(self, rows: Rows, starts: Sequence[int], roots: dict[str, Tensor]) -> Iterator[Tensor]:
        """``Q_Sᵀ G Q_A / √(Λ + λ)`` of each row, all matrices end to end."""
        for row, start in zip(rows, starts, strict=True):
            once = partial(backpropagate, self.model, Batch.of([row], [start]))
            factors = _factors(self.model, self.matrices, once)
            turned = (self.bases[name].turned(*factors[name]) / root for name, root in roots.items())
            yield torch.cat([part.flatten() for part in turned])


def _basis(matrix: Matrix, inside: Tensor, outside: Tensor) -> Eigenbasis:
    own = torch.zeros_like(outside)
    first = 0
    for width in matrix.outputs:
        part = slice(first, first + width)
        own[part, part] = torch.linalg.eigh(outside[part, part]).eigenvectors
        first += width
    vectors = torch.linalg.eigh(inside).eigenvectors
    return Eigenbasis(vectors.float(), own.float(), torch.zeros(len(outside), len(inside)))


def _drawn(
    model: LanguageModel, matrices: Sequence[Matrix], rows: Rows, starts: Sequence[int], seed: int
) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Factors x [t, i] and d [t, o] of each row, towards labels that the model itself predicts."""
    draw = torch.Generator().manual_seed(seed)
    for row, start in zip(rows, starts, strict=True):
        batch = Batch.of([row], [start])

        def towards_drawn(batch: Batch = batch) -> None:
            hidden, _ = predicting(model, batch)
            log_p = model.logits(hidden).log_softmax(-1)
            labels = torch.multinomial(log_p.detach().exp().cpu(), 1, generator=draw).to(log_p.device)
            (-log_p.gather(1, labels).sum()).backward()

        yield _factors(model, matrices, towards_drawn)


def _factors(
    model: LanguageModel, matrices: Sequence[Matrix], backward: Callable[[], None]
) -> dict[str, tuple[Tensor, Tensor]]:
    kept = _Factors()
    with captured(model, matrices, [kept], 1):
        backward()
    return kept.of
