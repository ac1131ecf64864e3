"""Products with stored codes, compiled and decoded, against float64."""

from __future__ import annotations

import platform
import shutil
import sysconfig
from importlib.util import find_spec
from itertools import product as combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from proponent.index import code_products
from proponent.index.code_products import FEW, CodeProducts

compiled = pytest.mark.skipif(code_products._code_products is None, reason="the module was not compiled")


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_right(vectors: Tensor, codes: Tensor) -> None:
    made = CodeProducts(vectors).of(codes)
    assert (made.shape, made.dtype) == ((len(vectors), len(codes)), torch.float32)
    off = (made - vectors.double() @ codes.double().T).abs()
    norms = torch.outer(vectors.double().norm(dim=1), codes.double().norm(dim=1))
    assert (off <= 1e-6 * norms).all()


@pytest.mark.skipif(
    shutil.which("cc") is None
    or not (Path(sysconfig.get_path("include")) / "Python.h").exists()
    or platform.machine() not in ("x86_64", "aarch64", "arm64"),
    reason="no compiler or Python headers, or a processor that the module does not know",
)
def test_the_module_was_compiled_where_it_can_be() -> None:
    assert find_spec("proponent.index._code_products") is not None


@pytest.mark.parametrize("way", [pytest.param("compiled", marks=compiled), "decoded"])
@pytest.mark.parametrize("dim", [1, 8, 15, 24, 4096, 4100, 4104, 2**16])
@pytest.mark.parametrize("count", [1, 2, 3, FEW, FEW + 1])
def test_products_are_those_of_float64(
    count: int, dim: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "decoded":
        monkeypatch.setattr(code_products, "_code_products", None)
    vectors = drawn(0, count, dim)
    for rows in (0, 1, 3, 4, 5, 130):
        assert_right(vectors, drawn(1, rows, dim).half())


@pytest.mark.parametrize("size", [1e-30, 1e-7, 1e4])
def test_codes_of_all_sizes_and_vectors_of_all_sizes(size: float) -> None:
    codes = (drawn(2, 9, 512) * torch.logspace(-7, 4, 9)[:, None]).half()  # some too small for normal numbers
    assert_right(size * drawn(3, 2, 512), codes)


@pytest.mark.parametrize(
    "codes",
    [
        drawn(4, 9, 16),  # float32, as redamped rows are
        drawn(4, 9, 15).half(),
        drawn(4, 16, 9).half().T[:, :8],
        drawn(4, 9 * 16 + 1).half()[1:].view(9, 16),  # files promise no more than two bytes
        drawn(4, 20, 16).half()[3:12],
    ],
    ids=["float32", "odd width", "view with gaps", "unaligned", "rows of more"],
)
def test_codes_of_every_layout(codes: Tensor) -> None:
    assert_right(drawn(5, 2, codes.shape[1]), codes)
    assert_right(drawn(5, codes.shape[1], 2).T, codes)


@compiled
def test_a_row_has_the_same_bytes_whatever_lies_beside_it_and_however_many_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors, codes = drawn(6, 3, 4160), drawn(7, 37, 4160).half()
    expected = CodeProducts(vectors).of(codes)
    for threads, rows in combinations((1, 2, 3, 64), (1, 2, 6, 37)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        products = CodeProducts(vectors)
        assert torch.equal(torch.cat([products.of(part) for part in codes.split(rows)], 1), expected)
    for vector, row in zip(vectors.split(1), expected.split(1), strict=True):
        assert torch.equal(CodeProducts(vector).of(codes), row)


@compiled
def test_the_module_refuses_shapes_that_do_not_fit() -> None:
    module = code_products._code_products
    vectors, codes = drawn(8, 2, 16).numpy(), drawn(9, 8, 16).half().numpy()
    made = torch.zeros(2, 8).numpy()
    module.add_products(vectors, codes, made, 16, 0, 8)
    for d, first, stop in (
        (15, 0, 8),
        (0, 0, 8),
        (-16, 0, 8),
        (32, 0, 8),
        (16, 2, 8),
        (16, 4, 0),
        (16, 0, 9),
        (16, 0, 2),
        (2**62, 0, 8),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            module.add_products(vectors, codes, made, d, first, stop)
    with pytest.raises(ValueError, match="do not fit"):
        module.add_products(vectors, codes, made[:1], 16, 0, 8)
    with pytest.raises((BufferError, ValueError), match="contiguous"):
        module.add_products(vectors, codes[:, ::2], made, 16, 0, 8)
