"""Rows of a compact index: a bit a coordinate of a sketched row, and products with them.

A row ψ is stored as the signs s = sign(Sψ) of its sketch, its norm and the scale ``‖ψ‖² / ‖Sψ‖₁``, so that
``scale · ⟨s, Sv⟩`` estimates ``⟨v, ψ⟩`` without bias for any v (docs/theory.md, "One bit a coordinate").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from proponent.index.sketch import Sketch
from proponent.products import product

try:
    from proponent.index import _sign_products
except ImportError:  # installed without a C compiler, or a processor that it does not know
    _sign_products = None  # type: ignore[assignment]

# Bits of a coordinate of a vector that is multiplied with signs: rounding adds under 1% to their variance.
PLANES = 6
LEVELS = 2**PLANES - 1  # its largest odd number
STORED = ("codes", "scale", "norms", "residual")
ROUNDED = 1.2e-3  # of a residual's square, relative to its row's, which float16 may change by 2^-10
WORD = 64  # signs that are stored together
ENCODED = 64  # rows that are encoded at a time
DECODED = 128  # rows that are decoded at a time where nothing is compiled


@dataclass(frozen=True)
class SignRows:
    """Rows [n, m] of signs, as ``encode_signs`` makes them.

    pieces: the codes [n, m / 8] uint8, or consecutive pieces of them; coordinate j is bit j mod 8 of byte
    j / 8, 1 for a sign of +1.  scale, norms, residual: [n] float32; norms are of the rows before they were
    sketched, and residual is the norm of what of a row lies beyond the direction ``Sᵀs``.
    """

    pieces: tuple[Tensor, ...]
    scale: Tensor
    norms: Tensor
    residual: Tensor

    @classmethod
    def stored(cls, tensors: Mapping[str, Tensor]) -> SignRows:
        """Rows from the tensors that ``encode_signs`` gave."""
        codes, *others = (tensors[name] for name in STORED)
        return cls((codes,), *others)

    @classmethod
    def joined(cls, rows: Sequence[SignRows]) -> SignRows:
        """Rows of several, one after the other, whose codes stay where they are."""
        numbers = ((one.scale, one.norms, one.residual) for one in rows)
        pieces = tuple(piece for one in rows for piece in one.pieces)
        return cls(pieces, *map(torch.cat, zip(*numbers, strict=True)))

    def __len__(self) -> int:
        return len(self.norms)

    @property
    def dim(self) -> int:
        """Coordinates m of a row."""
        return self.pieces[0].shape[1] * 8

    @property
    def codes(self) -> Tensor:
        """All codes [n, m / 8]."""
        return self.pieces[0] if len(self.pieces) == 1 else torch.cat(self.pieces)

    def part(self, start: int, stop: int) -> SignRows:
        """Rows start..stop."""
        return self._of(slice(start, stop))

    def only(self, rows: Tensor) -> SignRows:
        """Some rows [m]."""
        return self._of(rows)

    def _of(self, rows: Tensor | slice) -> SignRows:
        return SignRows((self.codes[rows],), self.scale[rows], self.norms[rows], self.residual[rows])

    def signs(self) -> Tensor:
        """Signs [n, m] ±1 float32."""
        return _signs(self.codes)

    def decode(self) -> Tensor:
        """All rows [n, m] float32: ``scale · s``, whose products with vectors are those of the rows."""
        return self.signs().mul_(self.scale[:, None])


def _signs(codes: Tensor) -> Tensor:
    bits = np.unpackbits(codes.contiguous().numpy(), axis=1, bitorder="little")
    return torch.from_numpy(bits).float().mul_(2).sub_(1)


def encode_signs(rows: Tensor, norms: Tensor, sketch: Sketch) -> dict[str, Tensor]:
    """Encode rows ψ [n, d] of norms [n] as ``STORED``: codes [n, m / 8] uint8, the others [n] float32.

    A row of zeros has a scale of 0.
    """
    codes = torch.empty(len(rows), sketch.size // 8, dtype=torch.uint8)
    scale, residual = torch.zeros(len(rows)), torch.zeros(len(rows))
    for start in range(0, len(rows), ENCODED):
        part = slice(start, start + ENCODED)
        # of unit norm: squares of small gradients vanish in float32
        sketched = sketch(rows[part]) / torch.where(norms[part] > 0, norms[part], 1.0)[:, None]
        positive, sums = sketched >= 0, sketched.abs().sum(1)
        codes[part] = torch.from_numpy(np.packbits(positive.numpy(), axis=1, bitorder="little"))
        scale[part] = torch.where(sums > 0, norms[part] / sums, 0.0)
        turned = sketch.transposed_norms(torch.where(positive, 1.0, -1.0))
        along = torch.where(sums > 0, sums / turned, 0.0)  # of ψ / ‖ψ‖ and Sᵀs
        residual[part] = norms[part] * (1 - along.square() + ROUNDED).clamp(ROUNDED, 1).sqrt()
    return dict(zip(STORED, (codes, scale, norms, residual), strict=True))


class SignProducts:
    """Products of vectors [q, m] with rows of signs.

    A vector is rounded to odd multiples of a step that reach its largest coordinate, ``PLANES`` bits each:
    then all sums are whole numbers, and the same whoever makes them.
    """

    def __init__(self, vectors: Tensor) -> None:
        largest = vectors.abs().amax(1, keepdim=True) if vectors.numel() else vectors[:, :1]
        self._step: Tensor = (largest / LEVELS).float()  # 0 for a vector of zeros, whose products are 0
        self._vectors = vectors

    def of(self, rows: SignRows) -> Tensor:
        """``vectors · rowsᵀ`` [q, n] float32."""
        return self._counted(rows) if _sign_products is not None else self._decoded(rows)

    def _decoded(self, rows: SignRows) -> Tensor:
        """Of signs as floats, whose whole products are exact below 2^24."""
        parts = (part for codes in rows.pieces for part in codes.split(DECODED))
        made = [product(self._odd, _signs(part)) for part in parts if len(part)]
        whole = torch.cat(made, 1) if made else torch.empty(len(self._odd), 0)
        return whole.mul_(self._step).mul_(rows.scale)

    def _counted(self, rows: SignRows) -> Tensor:
        """The same by the compiled module, in this thread."""
        made, at = np.empty((len(self._step), len(rows)), dtype=np.float32), 0
        steps, scales = self._step.numpy(), rows.scale.contiguous().numpy()
        for codes in rows.pieces:
            whole = codes.contiguous().numpy()
            _sign_products.multiply(self._planes, whole, steps, scales, made, PLANES, rows.dim // WORD, at)
            at += len(codes)
        return torch.from_numpy(made)

    @property
    def rounded(self) -> Tensor:
        """The vectors [q, m] as they are multiplied."""
        return self._odd * self._step

    @cached_property
    def _odd(self) -> Tensor:
        """Vectors [q, m] over their step: odd whole numbers from −LEVELS to LEVELS, float32."""
        steps = torch.where(self._step > 0, self._step, 1.0)
        odd = (self._vectors.float() / steps).sub_(1).div_(2).round_().mul_(2).add_(1)
        clamped: Tensor = odd.clamp_(-LEVELS, LEVELS)
        return clamped

    @cached_property
    def _planes(self) -> np.ndarray:
        """Bits b_k [q, PLANES, m / 8] of the vectors: each coordinate is ``2 Σ_k 2^k b_k − LEVELS``."""
        levels = ((self._odd + LEVELS) / 2).to(torch.uint8).numpy()
        planes = [np.packbits(levels >> k & 1, axis=1, bitorder="little") for k in range(PLANES)]
        return np.stack(planes, 1)
