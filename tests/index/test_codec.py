"""Two bytes a coordinate, and products with such rows, compiled and decoded, against float64."""

from __future__ import annotations

import platform
import shutil
import sysconfig
from importlib.util import find_spec
from itertools import product as combinations
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from proponent.index import codec
from proponent.index.codec import ENCODED, FEW, RowProducts, Rows, encode
from proponent.index.norms import row_norms

WIDTH = 300
MODULE = vars(codec)["_code_products"]
compiled = pytest.mark.skipif(MODULE is None, reason="the module was not compiled")


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def encoded(rows: Tensor) -> Rows:
    return Rows.stored(encode(rows))


def of_codes(codes: Tensor, scale: Tensor | None = None) -> Rows:
    """Rows of codes as they are; their norms do not matter to products."""
    return Rows(codes, torch.ones(len(codes)) if scale is None else scale, torch.zeros(len(codes)))


@given(seed=st.integers(0, 2**31), size=st.floats(-25, 25))
def test_coordinates_keep_eleven_bits_whatever_their_size(seed: int, size: float) -> None:
    rows = drawn(seed, 4, WIDTH) * 10.0**size
    found = encoded(rows).decode()
    root_mean_square = rows.double().square().mean(1, keepdim=True).sqrt()
    error = (found.double() - rows.double()).abs()
    # half a unit in float16's last place; below its smallest normal number, of that number's
    assert (error <= 2.0**-11 * rows.double().abs() * 1.001 + 2.0**-25 * root_mean_square).all()


@given(seed=st.integers(0, 2**31), size=st.floats(-25, 25))
def test_norms_are_those_of_the_rows_before_they_were_rounded(seed: int, size: float) -> None:
    rows = drawn(seed, 4, WIDTH) * 10.0**size
    expected = rows.double().norm(dim=1)
    for found in (encoded(rows).norms, row_norms(rows), Rows.in_memory(rows).norms):
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)


def test_a_coordinate_is_two_bytes() -> None:
    tensors = encode(torch.randn(3, WIDTH))
    assert {name: (value.dtype, tuple(value.shape)) for name, value in tensors.items()} == {
        "codes": (torch.float16, (3, WIDTH)),
        "scale": (torch.float32, (3,)),
        "norms": (torch.float32, (3,)),
    }


def test_a_row_of_one_coordinate_does_not_overflow() -> None:
    rows = torch.zeros(1, 2**16)
    rows[0, 77] = -3e4
    assert torch.equal(encoded(rows).decode(), rows)


def test_zeros_stay_zeros() -> None:
    rows = torch.zeros(2, WIDTH)
    rows[1] = 5.0
    found = encoded(rows)
    assert not found.decode()[0].any()
    assert found.norms[0] == 0
    torch.testing.assert_close(found.decode()[1], rows[1])


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 2), (1, 4), (3, 9), (0, 9)])
def test_any_range_of_rows_can_be_decoded(start: int, stop: int) -> None:
    rows = encoded(drawn(1, 9, WIDTH))
    part = rows.part(start, stop)
    assert (len(part), part.dim) == (stop - start, WIDTH)
    assert torch.equal(part.decode(), rows.decode()[start:stop])
    assert torch.equal(part.norms, rows.norms[start:stop])
    assert torch.equal(rows.at(torch.arange(start, stop)), part.decode())


def test_many_rows_are_encoded_as_each_is_by_itself() -> None:
    rows = drawn(2, 2 * ENCODED + 3, WIDTH)
    whole, each = encode(rows), [encode(row) for row in rows.split(1)]
    assert all(torch.equal(whole[name], torch.cat([one[name] for one in each])) for name in whole)
    found = Rows.stored(whole)
    into = torch.empty_like(rows)
    assert found.decode(into) is into
    assert torch.equal(into, torch.cat([Rows.stored(one).decode() for one in each]))
    assert torch.equal(into, found.at(torch.ones(len(rows), dtype=torch.bool)))
    assert encoded(rows[:0]).decode(rows[:0]).shape == (0, WIDTH)


@pytest.mark.parametrize(("start", "stop"), [(0, WIDTH), (0, 1), (100, 200), (200, WIDTH)])
def test_columns_are_those_of_the_decoded_rows(start: int, stop: int) -> None:
    rows = encoded(drawn(3, 9, WIDTH) * torch.logspace(-3, 3, 9)[:, None])
    whole = rows.decode()[:, start:stop]
    assert torch.equal(rows.columns(start, stop), whole)
    vectors = drawn(4, 3, stop - start)
    off = (rows.column_products(vectors, start, stop) - vectors.double() @ whole.double().T).abs()
    assert (off <= 1e-6 * torch.outer(vectors.double().norm(dim=1), whole.double().norm(dim=1))).all()


def test_columns_are_a_copy_that_may_be_changed() -> None:
    for rows in (encoded(drawn(5, 2, WIDTH)), Rows.in_memory(drawn(5, 2, WIDTH))):
        before = rows.decode()
        rows.columns(0, WIDTH).zero_()
        rows.column_products(drawn(6, 1, WIDTH), 0, WIDTH).zero_()
        assert torch.equal(rows.decode(), before)


def test_rows_in_memory_are_as_they_were() -> None:
    values = drawn(7, 5, WIDTH)
    rows = Rows.in_memory(values)
    assert torch.equal(rows.decode(), values)
    assert torch.equal(rows.norms, values.norm(dim=1))


def assert_right(vectors: Tensor, rows: Rows) -> None:
    made = RowProducts(vectors).of(rows)
    assert (made.shape, made.dtype) == ((len(vectors), len(rows)), torch.float32)
    exact = rows.codes.double() * rows.scale.double()[:, None]
    off = (made - vectors.double() @ exact.T).abs()
    norms = torch.outer(vectors.double().norm(dim=1), exact.norm(dim=1))
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
        monkeypatch.setattr(codec, "_code_products", None)
    vectors = drawn(0, count, dim)
    for rows in (0, 1, 3, 4, 5, 130):
        assert_right(vectors, of_codes(drawn(1, rows, dim).half(), torch.linspace(0.1, 7, rows)))


@pytest.mark.parametrize("size", [1e-30, 1e-7, 1e4])
def test_codes_of_all_sizes_and_vectors_of_all_sizes(size: float) -> None:
    codes = (drawn(2, 9, 512) * torch.logspace(-7, 4, 9)[:, None]).half()  # some too small for normal numbers
    assert_right(size * drawn(3, 2, 512), of_codes(codes))


@pytest.mark.parametrize(
    "codes",
    [
        drawn(4, 9, 16),  # float32, as rows that are whitened anew are
        drawn(4, 9, 15).half(),
        drawn(4, 16, 9).half().T[:, :8],
        drawn(4, 9 * 16 + 1).half()[1:].view(9, 16),  # files promise no more than two bytes
        drawn(4, 20, 16).half()[3:12],
    ],
    ids=["float32", "odd width", "view with gaps", "unaligned", "rows of more"],
)
def test_codes_of_every_layout(codes: Tensor) -> None:
    rows = of_codes(codes, torch.linspace(0.1, 7, 9))
    assert_right(drawn(5, 2, codes.shape[1]), rows)
    assert_right(drawn(5, codes.shape[1], 2).T, rows)


@compiled
def test_a_row_has_the_same_bytes_whatever_lies_beside_it_and_however_many_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors, rows = drawn(6, 3, 4160), of_codes(drawn(7, 37, 4160).half(), torch.linspace(0.1, 7, 37))
    expected = RowProducts(vectors).of(rows)
    for threads, size in combinations((1, 2, 3, 64), (1, 2, 6, 37)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        products = RowProducts(vectors)
        parts = [products.of(rows.part(start, start + size)) for start in range(0, 37, size)]
        assert torch.equal(torch.cat(parts, 1), expected)
    for vector, row in zip(vectors.split(1), expected.split(1), strict=True):
        assert torch.equal(RowProducts(vector).of(rows), row)


@compiled
def test_the_module_refuses_shapes_that_do_not_fit() -> None:
    vectors, codes = drawn(8, 2, 16).numpy(), drawn(9, 8, 16).half().numpy()
    made = torch.zeros(2, 8).numpy()
    MODULE.add_products(vectors, codes, made, 16, 0, 8)
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
            MODULE.add_products(vectors, codes, made, d, first, stop)
    with pytest.raises(ValueError, match="do not fit"):
        MODULE.add_products(vectors, codes, made[:1], 16, 0, 8)
    with pytest.raises((BufferError, ValueError), match="contiguous"):
        MODULE.add_products(vectors, codes[:, ::2], made, 16, 0, 8)
