"""EK-FAC against the matrix that it inverts, formed, and against plain autograd."""

from __future__ import annotations

import pytest
import torch
from tests.models import make_model
from tests.references.gradients import weight_gradients
from torch import Tensor, nn

from proponent.gradients.layers import Matrix, plan_layers
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.reference import EKFAC

ROWS = [[1, 5, 7, 9, 2], [3, 4, 8], [6, 6, 2, 1, 1, 9, 30], [12, 40, 7, 2]]
STARTS = [1, 1, 2, 3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(str(make_model(tmp_path_factory.mktemp("ekfac"))), "cpu")


@pytest.fixture(scope="module")
def matrices(model: LanguageModel) -> tuple[Matrix, ...]:
    return plan_layers(model, 96, 1).matrices


@pytest.fixture(scope="module")
def fitted(model: LanguageModel, matrices: tuple[Matrix, ...]) -> EKFAC:
    return EKFAC.of(model, matrices, ROWS, STARTS, seed=7)


def drawn(model: LanguageModel, module: nn.Linear) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Of each row: inputs x of a module, gradients d at its outputs, and of its weight, for drawn labels."""
    draw, found = torch.Generator().manual_seed(7), []
    for row, start in zip(ROWS, STARTS, strict=True):
        kept: list[Tensor] = []

        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor, kept: list[Tensor] = kept) -> None:
            output.retain_grad()
            kept.extend((args[0][0].detach(), output))

        module.weight.requires_grad_(True)
        handle = module.register_forward_hook(hook)
        logits = model.causal(input_ids=torch.tensor([row[:-1]]), use_cache=False).logits[0, start - 1 :]
        labels = torch.multinomial(logits.detach().softmax(-1), 1, generator=draw)[:, 0]
        nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
        handle.remove()
        d, weight = kept[1].grad, module.weight.grad
        assert d is not None
        assert weight is not None
        found.append((kept[0], d[0], weight.clone()))
        module.weight.requires_grad_(False)
        module.weight.grad = None
    return found


def test_the_basis_and_its_eigenvalues(model: LanguageModel, fitted: EKFAC) -> None:
    """Of the second module of a matrix of several, and of a matrix of one."""
    for matrix in (next(m for m in fitted.matrices if len(m.modules) > 1), fitted.matrices[-1]):
        slot = len(matrix.modules) - 1 and 1
        first = sum(matrix.outputs[:slot])
        part = slice(first, first + matrix.outputs[slot])
        basis, plain = (
            fitted.bases[matrix.name],
            drawn(model, model.causal.get_submodule(matrix.modules[slot])),
        )
        inputs = sum(x.double().T @ x.double() for x, _, _ in plain)
        outputs = sum(d.double().T @ d.double() for _, d, _ in plain)
        own = basis.outside[part, part]
        for vectors, covariance in ((basis.inside, inputs), (own, outputs)):
            turned = vectors.double().T @ covariance @ vectors.double()
            assert (turned - turned.diagonal().diag()).abs().max() < 1e-5 * turned.diagonal().max()
        expected = torch.stack([(own.T @ g @ basis.inside).square() for _, _, g in plain]).mean(0)
        torch.testing.assert_close(basis.values[part], expected, rtol=1e-3, atol=1e-4 * float(expected.max()))
        assert not basis.outside[part, : part.start].any(), "a module's outputs are turned by themselves"


def test_influence_is_a_solve_with_the_whole_matrix(
    model: LanguageModel, fitted: EKFAC, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``gᵀ (U Λ Uᵀ + λ)⁻¹ g`` of formed gradients, U and H formed, module by module."""
    asked, starts = [[2, 9, 4, 4], [8, 1, 30]], [2, 1]
    monkeypatch.setattr("proponent.gradients.reference.GRADIENT_BYTES", 1)  # one query at a time
    found, ours, theirs = fitted.products((asked, starts), (ROWS, STARTS))
    queries, passages = (
        [weight_gradients(model, fitted.matrices, row, start) for row, start in zip(*pair, strict=True)]
        for pair in ((asked, starts), (ROWS, STARTS))
    )
    made = torch.zeros(2, 4, dtype=torch.float64)
    lengths = torch.zeros(4, dtype=torch.float64)
    for matrix in fitted.matrices:
        basis, first = fitted.bases[matrix.name], 0
        for width in matrix.outputs:
            part = slice(first, first + width)
            first += width
            values = basis.values[part].double().flatten()
            turn = torch.kron(
                *(side.double().contiguous() for side in (basis.outside[part, part], basis.inside))
            )
            hessian = turn @ values.diag() @ turn.T + 0.1 * values.mean() * torch.eye(len(values))
            q = torch.stack([g[matrix.name][part].flatten() for g in queries]).double()
            m = torch.stack([g[matrix.name][part].flatten() for g in passages]).double()
            made += q @ torch.linalg.solve(hessian, m.T)
            lengths += (m * torch.linalg.solve(hessian, m.T).T).sum(1)
    torch.testing.assert_close(found, made, rtol=1e-3, atol=1e-4 * float(made.abs().max()))
    torch.testing.assert_close(theirs, lengths.sqrt(), rtol=1e-4, atol=0)
    assert (found / ours[:, None] / theirs).abs().max() <= 1 + 1e-6


def test_the_same_seed_draws_the_same_labels(
    model: LanguageModel, matrices: tuple[Matrix, ...], fitted: EKFAC
) -> None:
    again, other = (EKFAC.of(model, matrices, ROWS, STARTS, seed) for seed in (7, 8))
    name = matrices[0].name
    assert torch.equal(again.bases[name].values, fitted.bases[name].values)
    assert not torch.equal(other.bases[name].values, fitted.bases[name].values)
