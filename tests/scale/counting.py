"""What torch really does: operations in its products, and bytes of tensors that are alive at once."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from math import prod
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class Counted(TorchDispatchMode):
    """While open, counts what this thread's operations on tensors do, below autograd.

    operations: of matrix products, two a multiplication and addition, and of triangular solves.
    peak: most bytes of tensors made since, alive at once; what lives inside one operation is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.alive = self.peak = 0
        self._known: set[int] = set()

    def __enter__(self) -> Counted:
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        made = func(*args, **given)
        self.operations += _operations(func, args, given, made)
        old = {
            leaf.untyped_storage()._cdata for leaf in tree_leaves((args, given)) if isinstance(leaf, Tensor)
        }
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in old:
                self._take(leaf.untyped_storage())
        return made

    def _take(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())

    def _free(self, number: int, size: int) -> None:
        self._known.discard(number)
        self.alive -= size


def _operations(func: Any, args: Sequence[Any], given: Mapping[str, Any], made: Any) -> int:
    packet = func._overloadpacket
    if packet in flop_registry and packet is not torch.ops.aten.baddbmm:
        return int(flop_registry[packet](*args, **given, out_val=made))
    if packet in (torch.ops.mkldnn._linear_pointwise, torch.ops.aten.linear):
        rows, weight = args[:2]
        return 2 * rows.numel() * int(weight.shape[0])
    if packet in (torch.ops.aten.baddbmm, torch.ops.aten.baddbmm_):
        return 2 * prod(args[1].shape) * int(args[2].shape[-1])
    if packet is torch.ops.aten.linalg_solve_triangular:
        return prod(args[0].shape) * int(args[1].shape[-1])
    return 0
