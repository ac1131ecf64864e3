"""An index that a device holds beside the same index in its files: here the device is the processor."""

from __future__ import annotations

import pytest
import torch
from tests.runs import QUERIES, SlowRun
from torch import Tensor

from proponent.attribute import held
from proponent.attribute.held import HeldShards, fits, nearest_shards
from proponent.attribute.sharded import Streamed
from proponent.attribute.tracing import Tracer
from proponent.index.codec import HeldRows, RowProducts, Rows, encode
from proponent.progress import Silent

CPU, CARD = torch.device("cpu"), torch.device("cuda:0")
TOLERANCE = 2e-6  # of the largest score: sums of float32 in another order


@pytest.fixture(params=[1, 40])
def vectors(request: pytest.FixtureRequest) -> Tensor:
    """As many as the compiled products take as they are stored, and more."""
    return torch.randn(request.param, 384, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def pair() -> tuple[Rows, HeldRows]:
    rows = (
        torch.randn(300, 384, generator=torch.Generator().manual_seed(2))
        * torch.logspace(-3, 3, 300)[:, None]
    )
    stored = encode(rows)
    return Rows.stored(stored), HeldRows.stored(stored)  # type: ignore[return-value]


def test_products_on_the_device_are_those_of_the_compiled_code(
    vectors: Tensor, pair: tuple[Rows, HeldRows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proponent.index.codec.SLICE", 384 * 7)  # many slices, and a last one that is smaller
    rows, on_device = pair
    sizes = vectors.norm(dim=1)[:, None] * rows.norms
    apart = (RowProducts(vectors).of(on_device) - RowProducts(vectors).of(rows)) / sizes
    assert float(apart.abs().max()) < TOLERANCE
    exact = (vectors.double() @ rows.decode().double().T) / sizes
    assert float((RowProducts(vectors).of(on_device) / sizes - exact).abs().max()) < TOLERANCE
    columns = on_device.column_products(vectors[:, :64].contiguous(), 64, 128)
    expected = rows.column_products(vectors[:, :64].contiguous(), 64, 128)
    assert float(((columns - expected) / sizes).abs().max()) < TOLERANCE


def test_rows_come_back_from_the_device_as_they_are(pair: tuple[Rows, HeldRows]) -> None:
    rows, on_device = pair
    some, mask = torch.tensor([3, 200]), torch.arange(300) % 7 == 0
    for part in (on_device.part(5, 50), on_device.only(some)):
        assert isinstance(part, HeldRows), "so that its products are the device's as well"
    assert torch.equal(on_device.at(some), rows.at(some))
    assert torch.equal(on_device.at(mask), rows.at(mask))
    assert torch.equal(on_device.columns(3, 9), rows.columns(3, 9))
    assert torch.equal(on_device.decode(), rows.decode())


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "ROWS", 5)


@pytest.mark.parametrize(
    ("method", "task"), [("trackstar", None), ("trackstar", QUERIES), ("cosine", None), ("dot", None)]
)
def test_a_trace_over_what_a_device_holds_finds_the_same(
    method: str, task: object, run: SlowRun, small_parts: None
) -> None:
    tracer, shards = Tracer(run.index, "cpu"), HeldShards(run.index, CPU)
    assert isinstance(tracer.shards, Streamed)
    expected = tracer.trace(QUERIES, method, 4, task)  # type: ignore[arg-type]
    tracer.shards = shards
    for _ in range(2):  # the second time the rows are there already
        found = tracer.trace(QUERIES, method, 4, task)  # type: ignore[arg-type]
        for hit, other in zip(found, expected, strict=True):
            for side in ("proponents", "opponents"):
                ours, theirs = getattr(hit, side), getattr(other, side)
                assert [passage.id for passage in ours] == [passage.id for passage in theirs]
                size = max(abs(passage.score) for passage in theirs)
                assert all(abs(a.score - b.score) < 1e-5 * size for a, b in zip(ours, theirs, strict=True))


def test_values_cover_all_rows_in_order(run: SlowRun, small_parts: None) -> None:
    found = HeldShards(run.index, CPU).each(lambda shard: shard.positions, "positions", Silent())
    assert torch.equal(torch.cat(found), torch.arange(len(run.index)))


def test_an_index_is_held_where_it_fits_beside_the_model(
    run: SlowRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, index = 2 * len(run.index) * run.index.dim, run.index
    for free, expected in ((2 * size, HeldShards), (size, Streamed), (None, Streamed)):
        monkeypatch.setattr(held, "available", lambda _, free=free: free)
        assert isinstance(nearest_shards(index, CARD), expected)
        assert isinstance(nearest_shards(index, CPU), Streamed)
    monkeypatch.setattr(held, "available", lambda _: 2 * size)
    assert fits(index, CARD)
    assert not fits(type(index)(index.folder.path, 0.3), CARD), "its rows are whitened anew as they are read"
