"""Rank-one second moments: their scales, their floor, and the sums that are made without gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from proponent.gradients.layers import Matrix
from proponent.gradients.moments import FLOOR, MomentSums, SecondMoments, pack_moments, unpack_moments
from proponent.gradients.projection import gaussian_projection

PAIR = Matrix(("a.q", "a.k"), "attention", 0, 5, (3, 2))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scales(moments: SecondMoments) -> Tensor:
    """What a gradient [o, i] is multiplied by, element for element: D_r 1 D_c."""
    return torch.outer(moments.row_scale, moments.column_scale)


def divergence(v: Tensor, w: Tensor) -> float:
    """Generalised Kullback-Leibler divergence, the measure of Adafactor's paper."""
    return float((v * (v / w).log() - v + w).sum())


def test_rank_one_form_by_hand() -> None:
    moments = SecondMoments.of_full(torch.tensor([[1.0, 3.0], [4.0, 12.0], [9.0, 27.0]]))
    assert moments.rows.tolist() == [4, 16, 36]
    assert moments.columns.tolist() == [14, 42]
    root = 3**0.5
    expected = torch.tensor([[1, 1 / root], [1 / 2, 1 / (2 * root)], [1 / 3, 1 / (3 * root)]])
    torch.testing.assert_close(scales(moments), expected)


@given(
    st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=3),
    st.lists(st.floats(1e-6, 1e6), min_size=4, max_size=4),
)
def test_scales_of_a_rank_one_v_are_its_inverse_root(rows: list[float], columns: list[float]) -> None:
    full = torch.outer(torch.tensor(rows, dtype=torch.float64), torch.tensor(columns, dtype=torch.float64))
    kept = full.sum(1) > FLOOR * full.sum(1).mean() * 1.01
    kept_columns = full.sum(0) > FLOOR * full.sum(0).mean() * 1.01
    found = scales(SecondMoments.of_full(full))[kept][:, kept_columns]
    expected = full.rsqrt().float()[kept][:, kept_columns]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


def test_no_other_rank_one_form_is_nearer() -> None:
    full = random(6, 7).square().double() + 0.01
    moments = SecondMoments.of_full(full)
    r, c = moments.rows.double(), moments.columns.double()
    best = divergence(full, torch.outer(r, c) / r.sum())
    for seed in range(20):
        other_r = r * (0.1 * random(6, seed=seed + 1)).double().exp()
        other_c = c * (0.1 * random(7, seed=seed + 100)).double().exp()
        assert divergence(full, torch.outer(other_r, other_c) / other_r.sum()) > best


def test_ones_correct_nothing() -> None:
    torch.testing.assert_close(scales(SecondMoments.ones(PAIR)), torch.ones(5, 5), rtol=1e-6, atol=0)
    tall = Matrix(("m",), "mlp", 0, 3, (4096,))
    torch.testing.assert_close(scales(SecondMoments.ones(tall)), torch.ones(4096, 3), rtol=1e-6, atol=0)


def test_scales_do_not_depend_on_how_long_v_was_summed() -> None:
    """A V that is k times as large divides gradients by √k, whatever k: nothing else enters."""
    full = random(4, 5).square()
    for k in (1e-12, 1e-3, 1e4):
        torch.testing.assert_close(
            scales(SecondMoments.of_full(full * k)) * k**0.5,
            scales(SecondMoments.of_full(full)),
            rtol=1e-4,
            atol=0,
        )


def test_a_silent_row_gets_the_floor() -> None:
    """Rows 0, 1 and 1 of unit columns: the floor of the silent one is FLOOR times the mean, 2/3."""
    moments = SecondMoments(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([2.0]))
    ratio = moments.row_scale / moments.row_scale[1]
    assert ratio.tolist() == pytest.approx([(1 / (FLOOR * 2 / 3)) ** 0.5, 1, 1], rel=1e-5)
    assert moments.row_scale.isfinite().all()


def test_no_scale_exceeds_a_thousand_times_that_of_the_mean() -> None:
    rows = torch.tensor([0.0, 1e-30, 1e-9, 1.0, 2.0, 3.0])
    moments = SecondMoments(rows, torch.tensor([6.0]))
    of_mean = (rows.double().sum().sqrt() / rows.double().mean()).sqrt()
    assert moments.row_scale.max().item() == pytest.approx(1000 * of_mean.item(), rel=1e-4)


def test_a_matrix_without_any_gradient_is_left_alone() -> None:
    moments = SecondMoments(torch.zeros(3), torch.zeros(5))
    assert scales(moments).tolist() == torch.ones(3, 5).tolist()


def test_packed_moments_come_back_from_a_file(tmp_path: Path) -> None:
    moments = {
        "model.layers.0.q": SecondMoments(random(3).square(), random(5, seed=1).square(), of_mean=True),
        "model.layers.0.q.rows": SecondMoments(random(2).square(), random(1, seed=3).square()),
        # columns of a larger tensor, which a file takes only as copies
        "strided": SecondMoments(random(4, 4).square()[:, 0], random(4, 4).square()[:, 0]),
    }
    packed = pack_moments(moments)
    names = ["columns", "of_mean", "rows"]
    assert sorted(packed)[:3] == [f"model.layers.0.q.rows/{name}" for name in names]
    save_file(packed, tmp_path / "moments.safetensors")
    found = unpack_moments(load_file(tmp_path / "moments.safetensors"))
    assert found.keys() == moments.keys()
    for name, value in moments.items():
        assert torch.equal(found[name].rows, value.rows)
        assert torch.equal(found[name].columns, value.columns)
        assert found[name].of_mean == value.of_mean


@pytest.mark.parametrize("matrix", [PAIR, Matrix(("m",), "mlp", 0, 3, (7,))])
def test_folding_is_correcting_before_projecting(matrix: Matrix) -> None:
    outputs = sum(matrix.outputs)
    moments = SecondMoments(random(outputs).square() + 0.1, random(matrix.inputs, seed=1).square() + 0.1)
    plain, gradient = gaussian_projection(matrix, 4, seed=0), random(outputs, matrix.inputs, seed=2)
    folded = moments.fold(plain)
    corrected = scales(moments) * gradient
    torch.testing.assert_close(
        folded.out_side.T @ gradient @ folded.in_side, plain.out_side.T @ corrected @ plain.in_side
    )


def gradients(x: Tensor, d: Tensor) -> Tensor:
    """Every example's gradient [n, o, i], formed."""
    return torch.einsum("nto,nti->noi", d, x)


def test_sums_are_those_of_formed_gradients() -> None:
    x, q, k = random(4, 6, 5), random(4, 6, 3, seed=1), random(4, 6, 2, seed=2)
    sums = MomentSums([PAIR])
    for part in (slice(0, 1), slice(1, 4)):  # two batches
        batch = sums.open(part.stop - part.start)
        batch.forward(PAIR, x[part])
        batch.backward(PAIR, 1, k[part])  # autograd may come to the modules in any order
        batch.backward(PAIR, 0, q[part])
        sums.take(range(part.start, part.stop), batch)
    found = sums.moments(4)["a.q"]
    mean = gradients(x, torch.cat([q, k], -1)).double().square().mean(0)
    torch.testing.assert_close(found.rows, mean.sum(1).float())
    torch.testing.assert_close(found.columns, mean.sum(0).float())


def test_an_example_is_squared_after_its_tokens_are_summed() -> None:
    """Two tokens whose gradients cancel: V is 0, where squares summed over tokens would give 2."""
    sums = MomentSums([one := Matrix(("m",), "mlp", 0, 1, (1,))])
    sums.forward(one, torch.tensor([[[1.0], [1.0]]]))
    sums.backward(one, 0, torch.tensor([[[1.0], [-1.0]]]))
    assert sums.moments(1)["m"].rows.tolist() == [0]


def test_an_example_that_is_not_finite_is_left_out() -> None:
    x, d = random(3, 4, 5), random(3, 4, 5, seed=1)
    broken = d.clone()
    broken[1, 2, 0] = float("inf")
    sums = MomentSums([PAIR])
    sums.forward(PAIR, x)
    sums.backward(PAIR, 0, broken[..., :3])
    sums.backward(PAIR, 1, broken[..., 3:])
    found = sums.moments(1)["a.q"]
    squares = gradients(x, d).square()
    torch.testing.assert_close(found.rows, squares[[0, 2]].sum((0, 2)))
    torch.testing.assert_close(found.columns, squares[[0, 2]].sum((0, 1)))
