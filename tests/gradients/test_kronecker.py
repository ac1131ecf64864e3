"""Kronecker-factored second moments against gradients that are formed."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tests.models import make_model
from tests.references.gradients import weight_gradients
from torch import Tensor

from proponent.gradients import kronecker
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.kronecker import (
    KroneckerFactors,
    KroneckerSums,
    inverse_root,
    sample_kronecker,
    together,
)
from proponent.gradients.layers import LayerPlan, Matrix, plan_layers
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.projection import gaussian_projection
from proponent.gradients.sweep import Sweep

PAIR = Matrix(("a.q", "a.k"), "attention", 0, 5, (3, 2))
ROWS = [[1, 5, 7, 9, 2], [3, 4, 8], [6, 6, 2, 1, 1, 9, 30], [12, 40, 7, 2]]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fed(sums: KroneckerSums, x: Tensor, q: Tensor, k: Tensor) -> None:
    batch = sums.open(len(x))
    batch.forward(PAIR, x)
    batch.backward(PAIR, 1, k)  # autograd may come to the modules in any order
    batch.backward(PAIR, 0, q)
    sums.take(range(len(x)), batch)


def test_sums_are_those_of_formed_gradients() -> None:
    x, q, k = random(4, 6, 5), random(4, 6, 3, seed=1), random(4, 6, 2, seed=2)
    sums = KroneckerSums([PAIR])
    for part in (slice(0, 1), slice(1, 4)):  # two batches
        fed(sums, x[part], q[part], k[part])
    found = sums.factors(4)["a.q"]
    of_q, of_k = (torch.einsum("nto,nti->noi", d, x) for d in (q, k))
    for left, gradients in zip(found.left, (of_q, of_k), strict=True):
        torch.testing.assert_close(left, torch.einsum("noi,npi->op", gradients, gradients) / 4)
    both = torch.cat([of_q, of_k], 1)
    torch.testing.assert_close(found.right, torch.einsum("noi,noj->ij", both, both) / 4)
    squares = both.square().mean(0)
    torch.testing.assert_close(found.moments.rows, squares.sum(1))
    torch.testing.assert_close(found.moments.columns, squares.sum(0))


def test_an_example_that_is_not_finite_is_left_out() -> None:
    x, q, k = random(3, 4, 5), random(3, 4, 3, seed=1), random(3, 4, 2, seed=2)
    broken = q.clone()
    broken[1, 2, 0] = float("nan")
    some, others = KroneckerSums([PAIR]), KroneckerSums([PAIR])
    fed(some, x, broken, k)
    fed(others, x[[0, 2]], q[[0, 2]], k[[0, 2]])
    for a, b in zip(some.factors(1)["a.q"].left, others.factors(1)["a.q"].left, strict=True):
        torch.testing.assert_close(a, b)


def test_folding_corrects_a_gradient() -> None:
    left = tuple(m @ m.T + torch.eye(len(m)) for m in (random(3, 3), random(2, 2, seed=1)))
    root = random(5, 5, seed=2)
    factors, plain = KroneckerFactors(left, root @ root.T), gaussian_projection(PAIR, 4, 0)
    gradient = random(5, 5, seed=3)
    folded = factors.fold(plain, damping=0.1)
    corrected = []
    for factor, part in zip(factors.left, gradient.split([3, 2]), strict=True):
        damped = factor + 0.1 * factor.diagonal().mean() * torch.eye(len(factor))
        sigma, vectors = torch.linalg.eigh(damped.double())
        corrected.append(vectors @ torch.diag(sigma.rsqrt()) @ vectors.T @ part.double())
    right = factors.right.double()
    sigma, vectors = torch.linalg.eigh(right + 0.1 * right.diagonal().mean() * torch.eye(5))
    expected = torch.cat(corrected) @ vectors @ torch.diag(sigma.rsqrt()) @ vectors.T * right.trace().sqrt()
    torch.testing.assert_close(
        folded.out_side.T @ gradient @ folded.in_side,
        (plain.out_side.T.double() @ expected @ plain.in_side.double()).float(),
        rtol=1e-4,
        atol=1e-4,
    )


def test_gradients_of_a_kronecker_covariance_become_white() -> None:
    """G = A Z Bᵀ with Z white: without damping the corrected gradients have the identity as covariance."""
    a, b = random(3, 3) + 2 * torch.eye(3), random(4, 4, seed=1) + 2 * torch.eye(4)
    G = (a @ random(200_000, 3, 4, seed=2) @ b.T).double()
    left = torch.einsum("noi,npi->op", G, G) / len(G)
    right = torch.einsum("noi,noj->ij", G, G) / len(G)
    scale = right.trace().sqrt()
    white = inverse_root(left, 0.0) @ G @ inverse_root(right, 0.0) * scale
    covariance = white.flatten(1).T @ white.flatten(1) / len(G)
    torch.testing.assert_close(covariance, torch.eye(12, dtype=torch.float64), rtol=0, atol=0.03)


def test_a_matrix_without_gradient_is_left_as_it_is() -> None:
    assert inverse_root(torch.zeros(3, 3), 0.1).tolist() == torch.eye(3).tolist()
    folded = KroneckerFactors((torch.zeros(3, 3), torch.zeros(2, 2)), torch.zeros(5, 5)).fold(
        gaussian_projection(PAIR, 4, 0)
    )
    assert folded.in_side.isfinite().all()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(str(make_model(tmp_path_factory.mktemp("models") / "tiny")), "cpu")


def exact_features(model: LanguageModel, plan: LayerPlan, seed: int) -> Tensor:
    """Features of ROWS by the definition: gradients by autograd, factors of them, dense matrices."""
    gradients = [weight_gradients(model, plan.matrices, row, 1) for row in ROWS]
    features = torch.zeros(len(ROWS), len(plan.blocks), plan.side, plan.side, dtype=torch.float64)
    for b, block in enumerate(plan.blocks):
        for matrix in block.matrices:
            G = torch.stack([g[matrix.name].double() for g in gradients])  # [n, o, i]
            right = torch.einsum("noi,noj->ij", G, G) / len(G)
            roots = [
                inverse_root(torch.einsum("noi,npi->op", part, part) / len(G), kronecker.DAMPING)
                for part in G.split(matrix.outputs, 1)
            ]
            corrected = torch.block_diag(*roots) @ G @ inverse_root(right, kronecker.DAMPING)
            sides = gaussian_projection(matrix, plan.side, seed)
            scale = right.trace().sqrt()
            features[:, b] += sides.out_side.double().T @ corrected @ sides.in_side.double() * scale
    return features.flatten(1)


@pytest.mark.parametrize("at_once", [1, 2**27])
def test_features_are_those_of_corrected_gradients(
    model: LanguageModel, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kronecker, "AT_ONCE", at_once)
    plan = plan_layers(model, 6 * 16, 8)
    assert len(list(together(plan.matrices))) == (1 if at_once > 1 else len(plan.matrices))
    starts, sweep = [1] * len(ROWS), Sweep(model, plan.matrices, 100)
    projection = partial(gaussian_projection, side=plan.side, seed=3)
    moments, folded = sample_kronecker(sweep, ROWS, starts, projection)
    found = FeatureExtractor(model, plan, folded, 100)(ROWS, starts, "loss").double()
    expected = exact_features(model, plan, 3)
    assert torch.cosine_similarity(found, expected, dim=1).min() > 1 - 1e-6
    torch.testing.assert_close(found.norm(dim=1), expected.norm(dim=1), rtol=1e-3, atol=0)
    assert set(moments) == set(folded) == {m.name for m in plan.matrices}


def test_matrices_are_grouped_by_the_size_of_their_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = [Matrix((f"m{n}",), "mlp", 0, 3, (4,)) for n in range(5)]  # 25 numbers each
    monkeypatch.setattr(kronecker, "AT_ONCE", 50)
    assert [len(group) for group in together(matrices)] == [2, 2, 1]
