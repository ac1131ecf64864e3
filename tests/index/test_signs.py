"""Signs of a sketch: products compiled and decoded, what they estimate, and how far they are off."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from proponent.index import signs
from proponent.index.mix import TaskMix, TaskSubspace
from proponent.index.norms import row_norms
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import LOT, Shard, best, in_lots, search
from proponent.index.signs import LEVELS, PLANES, SignProducts, SignRows, encode_signs
from proponent.index.sketch import Sketch, hadamard
from proponent.index.whitening import ScaledIdentity, Whitening

DIM, SIZE = 700, 256
MODULE = vars(signs)["_sign_products"]
compiled = pytest.mark.skipif(MODULE is None, reason="the module was not compiled")


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def encoded(rows: Tensor, sketch: Sketch) -> SignRows:
    return SignRows.stored(encode_signs(rows, row_norms(rows), sketch))


def matrix(sketch: Sketch) -> Tensor:
    """S [m, d], a column at a time."""
    return sketch(torch.eye(sketch.dim, dtype=torch.float64)).T


@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_hadamards_matrix_is_sylvesters(size: int) -> None:
    expected = torch.ones(1, 1)
    while len(expected) < size:
        expected = torch.cat([torch.cat([expected, expected], 1), torch.cat([expected, -expected], 1)])
    torch.testing.assert_close(hadamard(torch.eye(size)), expected / size**0.5)


@pytest.mark.parametrize("dim", [1, 255, 256, 257, DIM])
def test_a_sketch_is_a_fold_turned_and_its_transpose_is_that_of_its_matrix(dim: int) -> None:
    sketch = Sketch(dim, SIZE, seed=3)
    S = matrix(sketch)
    # each column of S has unit norm, and coordinates m apart after the shuffle share one, but for their sign
    torch.testing.assert_close(S.norm(dim=0), torch.ones(dim, dtype=torch.float64))
    alike = (S.T @ S).abs()
    torch.testing.assert_close(alike, alike.round(), atol=1e-12, rtol=0)
    most = -(-dim // SIZE)
    assert float(alike.sum(1).max()) <= most + 1e-9
    assert float((alike > 0.5).sum()) <= dim * most
    c = drawn(1, 3, SIZE).double()
    torch.testing.assert_close(sketch.transposed(c), c @ S)
    torch.testing.assert_close(sketch.transposed_norms(c), (c @ S).norm(dim=1))


def test_inner_products_are_kept_on_average_and_within_the_stated_variance() -> None:
    a, b = drawn(1, 1, DIM), drawn(2, 1, DIM)
    a[0, [0, 64, 128]] = 40  # few coordinates that weigh most, and as far apart as a fold, are no harder
    b = b + 0.3 * a
    sketches = [Sketch(DIM, 64, seed) for seed in range(1500)]
    found = torch.tensor([float(sketch(a) @ sketch(b).T) for sketch in sketches])
    exact, bound = float(a @ b.T), 2 * float(a.square().sum() * b.square().sum()) / 64
    assert abs(float(found.mean()) - exact) < 4 * float(found.std()) / len(found) ** 0.5
    assert bound / 20 < float(found.var()) <= bound


@compiled
@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31), rows=st.integers(0, 11), vectors=st.integers(1, 4), words=st.integers(1, 20)
)
def test_counted_products_are_those_of_decoded_signs_to_the_last_bit(
    seed: int, rows: int, vectors: int, words: int
) -> None:
    size = 64 * words
    bits = torch.randint(0, 256, (rows, size // 8), generator=torch.Generator().manual_seed(seed)).byte()
    codes = SignRows((bits,), drawn(seed, rows).abs(), torch.ones(rows), torch.ones(rows))
    products = SignProducts(drawn(seed + 1, vectors, size) * 10.0 ** (seed % 40 - 20))
    counted = products.of(codes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signs, "_sign_products", None)
        assert torch.equal(counted, products.of(codes))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("module", [MODULE, None])
def test_shards_of_signs_are_scored_in_lots_with_the_same_answer(
    module: object, mixed: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against each shard's scores by itself; the last lot is short, and a shard without rows lies between."""
    sketch, vectors = Sketch(DIM, SIZE, 0), drawn(3, 3, DIM)
    counts = [5, 3, 0, *[7] * LOT]
    shards, first = [], 0
    for number, count in enumerate(counts):
        rows = encoded(drawn(10 + number, count, DIM), sketch)
        shards.append(Shard(first, rows, rows.norms))
        first += count
    lots = list(in_lots(shards, 3))
    assert [lot.first for lot in lots] == [0, sum(counts[: LOT + 1])]
    assert sum(map(len, lots)) == first
    assert torch.equal(
        torch.cat([lot.rows.decode() for lot in lots]), torch.cat([s.rows.decode() for s in shards])
    )
    gap = shards[:2] + shards[5:7]  # as a worker has them that took over others of a lost one
    assert [(lot.first, len(lot)) for lot in in_lots(gap, 3)] == [(0, 8), (22, 14)]
    assert len(list(in_lots(shards, 10**6))) == len(shards) - 1, "no lots for many queries"
    monkeypatch.setattr(signs, "_sign_products", module)
    whitening, inner = Whitening((ScaledIdentity(1.0, DIM),), sketch), InnerProduct("train", True)
    if mixed:
        subspace = TaskSubspace.of(drawn(4, 5, DIM), whitening)
        inner = InnerProduct("mixed", True, TaskMix(subspace, 0.5))
    scan = QueryScan(QueryTerms(vectors, whitening, inner.subspace), inner)
    alone = torch.cat([scan.scores(shard) for shard in shards if len(shard)], 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = search(shards, scan, 6)
    finally:
        torch.set_num_threads(before)
    expected = best(alone, 6)
    assert torch.equal(found.proponent_scores, expected.proponent_scores)
    assert torch.equal(found.proponent_positions, expected.proponent_positions)
    assert torch.equal(found.opponent_positions, expected.opponent_positions)


def test_products_are_those_of_vectors_rounded_to_odd_steps() -> None:
    sketch, rows, vectors = Sketch(DIM, SIZE, 0), drawn(1, 9, DIM), drawn(2, 5, SIZE)
    vectors[3] = 0
    codes = encoded(rows, sketch)
    found = SignProducts(vectors).of(codes)
    step = vectors.abs().amax(1, keepdim=True) / LEVELS
    error = found - vectors @ codes.decode().T
    # each of m coordinates is off by a step at most, and by its third's root on average
    assert (error[[0, 1, 2, 4]].abs() <= (SIZE * step[[0, 1, 2, 4]] * codes.scale)).all()
    assert (error[[0, 1, 2, 4]].abs() <= 5 * (SIZE / 3) ** 0.5 * step[[0, 1, 2, 4]] * codes.scale).all()
    assert not found[3].any()
    assert LEVELS == 2**PLANES - 1


def test_signs_of_zero_rows_and_of_tiny_and_huge_ones() -> None:
    sketch, row = Sketch(DIM, SIZE, 0), drawn(1, 1, DIM)
    codes = encoded(torch.cat([row * 0, row * 1e-30, row, row * 1e30]), sketch)
    assert codes.scale[0] == 0
    assert torch.equal(codes.codes[1], codes.codes[2])
    assert torch.equal(codes.codes[2], codes.codes[3])
    torch.testing.assert_close(codes.scale[1:] / codes.norms[1:], (codes.scale[2] / codes.norms[2]).expand(3))


def test_an_estimate_is_right_on_average_and_its_error_is_normal_with_the_stated_deviation() -> None:
    """docs/theory.md: given Sψ with a Gaussian S, its deviation is ‖v‖ √(1 − ρ²) · scale."""
    size, count = 256, 2000
    row, other = drawn(1, 1, 2 * size), drawn(2, 1, 2 * size)
    vector = 0.2 * row / row.norm() + other / other.norm()
    rho = float(torch.cosine_similarity(vector, row))
    errors = torch.empty(count)
    for seed in range(count):
        S = drawn(seed, size, 2 * size) / size**0.5
        y = S @ (row[0] / row.norm())
        scale = row.norm() / y.abs().sum()
        estimate = scale * (S @ vector[0]) @ torch.where(y >= 0, 1.0, -1.0)
        deviation = vector.norm() * math.sqrt(1 - rho**2) * scale
        errors[seed] = (estimate - (vector @ row.T)[0, 0]) / deviation
    assert abs(float(errors.mean())) < 4 / count**0.5
    assert abs(float(errors.std()) - 1) < 0.05
    for z, share in ((1.0, 0.3173), (2.0, 0.0455), (3.0, 0.0027)):
        beyond = float((errors.abs() > z).float().mean())
        assert abs(beyond - share) < 4 * (share / count) ** 0.5 + 1e-3


@pytest.mark.parametrize(("dim", "size"), [(4096, 256), (256, 256), (256, 1024), (60, 8192)])
def test_the_sketch_errs_no_more_than_a_gaussian_one(dim: int, size: int) -> None:
    row, vector = drawn(1, 1, dim), drawn(2, 1, dim) + 0.1 * drawn(1, 1, dim)
    rho = float(torch.cosine_similarity(vector, row))
    errors = []
    for seed in range(600):
        sketch = Sketch(dim, size, seed)
        codes = encoded(row, sketch)
        estimate = (sketch(vector) * codes.decode()).sum()
        errors.append(float(estimate - (vector * row).sum()) / float(vector.norm() * codes.scale))
    found = torch.tensor(errors)
    assert abs(float(found.mean())) < 4 * float(found.std()) / len(found) ** 0.5
    assert 0.5 < float(found.std()) < math.sqrt(1 - rho**2) * 1.06
    assert float((found.abs() > 3).float().mean()) < 0.01
