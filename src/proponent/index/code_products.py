"""Products of vectors with the codes of an index: for few as they are stored, for many once decoded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial

import torch
from torch import Tensor

from proponent.products import product

try:
    from proponent.index import _code_products
except ImportError:  # installed without a C compiler, or a processor that it does not know
    _code_products = None  # type: ignore[assignment]

# Rows that are decoded at a time: they should stay in the caches between decoding and use, but a matrix
# product wants many.
DECODED = 128
# Up to so many vectors meet the codes as they are stored: that reads memory once, but multiplies more slowly
# than a large product does.
FEW = 16


class CodeProducts:
    """Products of vectors [q, d] float32 with codes [n, d], float16 as they are stored or float32.

    Decoding always goes into the same memory: as much of it from the system each time would cost a quarter
    of a scan.
    """

    def __init__(self, vectors: Tensor) -> None:
        self._vectors = vectors.contiguous()

    def of(self, codes: Tensor) -> Tensor:
        """``vectors · codesᵀ`` [q, n] in float32, for codes [n, d]."""
        few = _code_products is not None and 0 < len(self._vectors) <= FEW
        if few and codes.dtype == torch.float16 and codes.is_contiguous():
            return self._as_stored(codes)
        made = torch.empty(len(self._vectors), len(codes))
        for rows, into in zip(codes.split(DECODED), made.split(DECODED, 1), strict=True):
            into.copy_(product(self._vectors, self._decoded[: len(rows)].copy_(rows)))
        return made

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
    def _threads(self) -> int:
        return torch.get_num_threads()

    @cached_property
    def _workers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads - 1)

    @cached_property
    def _decoded(self) -> Tensor:
        return torch.empty(DECODED, self._vectors.shape[1])
