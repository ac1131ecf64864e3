"""How rows of features are stored: two bytes a coordinate and a scale a row, or a bit (``signs.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from proponent.index.norms import row_norms
from proponent.index.signs import SignProducts, SignRows
from proponent.products import product

try:
    from proponent.index import _code_products
except ImportError:  # installed without a C compiler, or a processor that it does not know
    _code_products = None  # type: ignore[assignment]

CODEC, SIGNS = "float16", "signs"
CODE_BYTES = 2  # of a coordinate in float16
ENCODED = 64  # rows that are encoded or decoded at a time
DECODED = 128  # rows that are decoded at a time for a product, few enough to stay in the caches
SLICE = 2**23  # codes that a device decodes at a time for a product
FEW = 16  # up to so many vectors are multiplied with the codes as they are stored


@dataclass(frozen=True)
class Rows:
    """Encoded rows [n, d].

    codes: [n, d] float16, or float32 for rows that were never stored.  scale: [n] float32.
    norms: of the rows before they were rounded, [n] float32.
    """

    codes: Tensor
    scale: Tensor
    norms: Tensor

    @classmethod
    def in_memory(cls, rows: Tensor) -> Rows:
        """Rows [n, d] float32 as they are."""
        return cls(rows, torch.ones(len(rows)), row_norms(rows))

    @classmethod
    def stored(cls, tensors: Mapping[str, Tensor]) -> Rows:
        """Rows from the tensors that ``encode`` gave."""
        return cls(tensors["codes"], tensors["scale"], tensors["norms"])

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def dim(self) -> int:
        """Coordinates d of a row."""
        return self.codes.shape[1]

    def part(self, start: int, stop: int) -> Rows:
        """Rows start..stop."""
        return type(self)(self.codes[start:stop], self.scale[start:stop], self.norms[start:stop])

    def only(self, rows: Tensor) -> Rows:
        """Some rows [m]."""
        return type(self)(self.codes[rows], self.scale[rows], self.norms[rows])

    def at(self, rows: Tensor) -> Tensor:
        """Some rows [m, d] decoded; rows: a mask [n] or positions [m]."""
        return self.codes[rows].float() * self.scale[rows, None]

    def decode(self, into: Tensor | None = None) -> Tensor:
        """All rows [n, d] float32, in fresh memory or in ``into``."""
        made = torch.empty(self.codes.shape) if into is None else into
        parts = (made.split(ENCODED), self.codes.split(ENCODED), self.scale.split(ENCODED))
        for part, codes, scale in zip(*parts, strict=True):  # a few stay in the caches between both steps
            part.copy_(codes).mul_(scale[:, None])
        return made

    def columns(self, start: int, stop: int) -> Tensor:
        """Columns start..stop of all rows, decoded, [n, stop − start] float32."""
        return self.codes[:, start:stop].to(torch.float32, copy=True).mul_(self.scale[:, None])

    def column_products(self, vectors: Tensor, start: int, stop: int) -> Tensor:
        """Products [v, n] of vectors [v, stop − start] with those columns of all rows."""
        return product(vectors, self.codes[:, start:stop].to(torch.float32)).mul_(self.scale)


class HeldRows(Rows):
    """The same with the codes on a device, which multiplies them; what it gives is on the processor.

    By slices that are taken to float32, small enough for the caches of a card.
    """

    def at(self, rows: Tensor) -> Tensor:
        """Some rows [m, d] decoded; rows: a mask [n] or positions [m]."""
        return self.codes[rows.to(self.codes.device)].cpu().float() * self.scale[rows, None]

    def columns(self, start: int, stop: int) -> Tensor:
        """Columns start..stop of all rows, decoded, [n, stop − start] float32."""
        return self.codes[:, start:stop].cpu().float().mul_(self.scale[:, None])

    def column_products(self, vectors: Tensor, start: int, stop: int) -> Tensor:
        """Products [v, n] of vectors [v, stop − start] with those columns of all rows."""
        sent = vectors.to(self.codes.device)
        parts = self.codes[:, start:stop].split(max(1, SLICE // (stop - start)))
        return torch.cat([sent @ part.float().T for part in parts], 1).cpu().mul_(self.scale)


def stored_rows(tensors: Mapping[str, Tensor]) -> Rows | SignRows:
    """Rows from the tensors of a file, whichever codec made them."""
    return SignRows.stored(tensors) if tensors["codes"].dtype == torch.uint8 else Rows.stored(tensors)


def encode(rows: Tensor) -> dict[str, Tensor]:
    """Encode rows [n, d] float32 as ``codes`` [n, d] float16, ``scale`` and ``norms`` [n] float32.

    A row is divided by its root mean square: then no coordinate exceeds the square root of d, far below
    float16's 65504.  Relative error of a coordinate: 2^-11.
    """
    norms = row_norms(rows)
    scale = norms / rows.shape[1] ** 0.5
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    codes = torch.empty(rows.shape, dtype=torch.float16)
    for start in range(0, len(rows), ENCODED):
        part = slice(start, start + ENCODED)
        codes[part] = rows[part] / scale[part, None]
    return {"codes": codes, "scale": scale, "norms": norms}


class RowProducts:
    """Products of vectors [q, d] float32 with encoded rows, decoded into the same memory each time."""

    def __init__(self, vectors: Tensor) -> None:
        self._vectors = vectors.contiguous()

    def of(self, rows: Rows | SignRows) -> Tensor:
        """``vectors · rowsᵀ`` [q, n] float32; of signs, as they estimate it."""
        if isinstance(rows, SignRows):
            return self._sign_products.of(rows)
        if isinstance(rows, HeldRows):
            return rows.column_products(self._vectors, 0, rows.dim)
        codes = rows.codes
        few = _code_products is not None and 0 < len(self._vectors) <= FEW
        if few and codes.dtype == torch.float16 and codes.is_contiguous():
            return self._as_stored(codes).mul_(rows.scale)
        made = torch.empty(len(self._vectors), len(codes))
        for part, into in zip(codes.split(DECODED), made.split(DECODED, 1), strict=True):
            into.copy_(product(self._vectors, self._decoded[: len(part)].copy_(part)))
        return made.mul_(rows.scale)

    def _as_stored(self, codes: Tensor) -> Tensor:
        """The same by the compiled module, each thread a range of rows; bytes do not depend on the ranges."""
        made = torch.zeros(len(self._vectors), len(codes))
        arrays = (self._vectors.numpy(), codes.numpy(), made.numpy())
        add = partial(_code_products.add_products, *arrays, codes.shape[1])
        own, *others = self._shares(len(codes))
        running = [self._workers.submit(add, *share) for share in others]
        add(*own)
        for share in running:
            share.result()
        return made

    def _shares(self, rows: int) -> list[tuple[int, int]]:
        """One range of rows for each thread, or fewer; the first is empty where there are no rows."""
        strips = -(-rows // _code_products.ROWS)
        each = max(1, -(-strips // self._threads)) * _code_products.ROWS
        return [(begin, min(begin + each, rows)) for begin in range(0, max(1, rows), each)]

    @cached_property
    def _sign_products(self) -> SignProducts:
        return SignProducts(self._vectors)

    @cached_property
    def _threads(self) -> int:
        return torch.get_num_threads()

    @cached_property
    def _workers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads - 1)

    @cached_property
    def _decoded(self) -> Tensor:
        return torch.empty(DECODED, self._vectors.shape[1])
