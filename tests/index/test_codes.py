"""Two bytes a coordinate."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from proponent.index.codes import TOGETHER, decode_rows, decode_shard, encode_rows, encode_shard

WIDTH = 300


@given(seed=st.integers(0, 2**31), size=st.floats(-25, 25))
def test_coordinates_keep_eleven_bits_whatever_their_size(seed: int, size: float) -> None:
    rows = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(seed)) * 10.0**size
    encoded = encode_rows(rows)
    found = decode_rows(**encoded)
    root_mean_square = rows.double().square().mean(1, keepdim=True).sqrt()
    error = (found.double() - rows.double()).abs()
    # half a unit in float16's last place; below its smallest normal number, of that number's
    assert (error <= 2.0**-11 * rows.double().abs() * 1.001 + 2.0**-25 * root_mean_square).all()


def test_a_coordinate_is_two_bytes() -> None:
    encoded = encode_rows(torch.randn(3, WIDTH))
    assert {name: (value.dtype, tuple(value.shape)) for name, value in encoded.items()} == {
        "codes": (torch.float16, (3, WIDTH)),
        "scale": (torch.float32, (3,)),
    }


def test_a_row_of_one_coordinate_does_not_overflow() -> None:
    rows = torch.zeros(1, 2**16)
    rows[0, 77] = -3e4
    assert torch.equal(decode_rows(**encode_rows(rows)), rows)


def test_zeros_stay_zeros() -> None:
    rows = torch.zeros(2, WIDTH)
    rows[1] = 5.0
    found = decode_rows(**encode_rows(rows))
    assert not found[0].any()
    torch.testing.assert_close(found[1], rows[1])


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 2), (1, 4), (3, 9), (0, 9)])
def test_any_range_of_rows_can_be_decoded(start: int, stop: int) -> None:
    encoded = encode_rows(torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(1)))
    part = {name: values[start:stop] for name, values in encoded.items()}
    assert torch.equal(decode_rows(**part), decode_rows(**encoded)[start:stop])


def test_a_shard_is_encoded_as_its_rows_are() -> None:
    rows = torch.randn(2 * TOGETHER + 3, WIDTH, generator=torch.Generator().manual_seed(2))
    encoded, whole = encode_shard(rows), encode_rows(rows)
    assert all(torch.equal(encoded[name], whole[name]) for name in whole)
    decoded = torch.empty_like(rows)
    decode_shard(**encoded, into=decoded)
    assert torch.equal(decoded, decode_rows(**whole))
    decode_shard(**encode_shard(rows[:0]), into=rows[:0])
