"""Another damping on a finished run: no model and no new files, the rows are whitened again as they pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from proponent.errors import InputError
from proponent.index.hessian import split_blocks
from proponent.index.run import Index
from proponent.index.search import Piece
from proponent.index.shrinkage import RULES, dampings
from proponent.products import product


class Redamped(Index):
    """A finished run as it would be with another damping.

    damping: relative to the mean eigenvalue, > 0; or ``oas`` or ``ledoit-wolf``, which read it off
    R_train, a block at a time.  Raises InputError for anything else.
    """

    def __init__(self, index: Index, damping: float | str) -> None:
        super().__init__(index.folder.path)
        if not (damping in RULES or (isinstance(damping, float) and damping > 0)):
            raise InputError(f"damping is '{damping}'; give a positive number or one of {', '.join(RULES)}")
        self._damping = damping
        self._stored = index.factors

    @cached_property
    def dampings(self) -> Tensor:
        """The damping of each block [b], relative to its mean eigenvalue."""
        return dampings(self._damping, self.hessian())

    @cached_property
    def factors(self) -> tuple[Tensor, ...]:
        """Cholesky factors of R_train with this damping."""
        return self.hessian().factors(self.dampings)

    def pieces(self) -> Iterator[Piece]:
        """All rows, ``ψ' = L'⁻¹ L ψ``."""
        # one triangular matrix a block, made once, takes the stored whitening to this one
        turns = [
            torch.linalg.solve_triangular(new.double(), old.double(), upper=False).float()
            for new, old in zip(self.factors, self._stored, strict=True)
        ]
        for piece in super().pieces():
            parts = split_blocks(piece.whitened, self.blocks)
            whitened = torch.cat([product(part, turn) for part, turn in zip(parts, turns, strict=True)], 1)
            norms, ones = whitened.norm(dim=1), torch.ones(len(piece))
            yield replace(piece, codes=whitened, scale=ones, whitened_norm=norms)
