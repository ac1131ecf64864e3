"""Whitening by the damped R_train, against float64 linear algebra."""

from __future__ import annotations

import pytest
import torch
from tests.index.cases import hessian_of, shard_of, whitening_of
from tests.index.test_hessian import BLOCKS, WIDTH, features
from torch import Tensor

from proponent.errors import InputError
from proponent.index.damping import LARGEST, RULES, Damping, damped_eigenvalues
from proponent.index.hessian import split_blocks
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.whitening import CORNER, BlockWhitening, Rewhitening, Whitening

DAMPINGS = [0.01, 1.0, 100.0, *RULES]


def of(values: Tensor, damping: float | str) -> Whitening:
    return whitening_of(values, BLOCKS, damping)


def exact(values: Tensor, damping: float | str) -> list[Tensor]:
    """Damped R of every block, in float64."""
    blocks = []
    for part in split_blocks(values, BLOCKS):
        R = part.double().T @ part.double() / len(part)
        ridge = RULES[damping](hessian_of(part)) if isinstance(damping, str) else damping
        keep = 1 - ridge if isinstance(damping, str) else 1
        blocks.append(keep * R + ridge * R.diagonal().mean() * torch.eye(WIDTH, dtype=torch.float64))
    return blocks


@pytest.mark.parametrize(("corner", "converted"), [(1, 1), (5, 4), (1, 512), (512, 1)])
def test_features_in_float64_are_whitened_in_float64(
    corner: int, converted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proponent.index.whitening.CORNER", corner)
    monkeypatch.setattr("proponent.index.whitening.STRIP", converted)
    values = features().double()
    whitening = of(features(), 0.01)
    psi = whitening.whiten(values)
    assert psi.dtype == torch.float64
    for part, block, given in zip(psi.split(WIDTH, 1), whitening.blocks, values.split(WIDTH, 1), strict=True):
        torch.testing.assert_close(part @ block.factor.double().T, given, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rows", [1, 70])
def test_whitening_in_halves_agrees_with_one_substitution_in_float64(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A width of several corners and strips, which do not divide it, of an R of less than full rank."""
    monkeypatch.setattr("proponent.index.whitening.STRIP", 100)
    width = 4 * CORNER + 77
    values = torch.randn(200, width, generator=torch.Generator().manual_seed(3))
    whitening = BlockWhitening.of(hessian_of(values), 1e-2)
    psi = whitening.whiten(values[:rows]).double()
    expected = torch.linalg.solve_triangular(
        whitening.factor.double(), values[:rows].double().T, upper=False
    ).T
    assert ((psi - expected).norm(dim=1) / expected.norm(dim=1)).max() < 1e-5


# 5 features cannot fill 12 dimensions: damping alone makes that R invertible
@pytest.mark.parametrize("rows", [40, 5])
@pytest.mark.parametrize("damping", DAMPINGS)
def test_whitening_is_an_inverse_square_root_of_the_damped_r(rows: int, damping: float | str) -> None:
    values = features(rows)
    W = of(values, damping).whiten(torch.eye(BLOCKS * WIDTH)).T.double()  # columns are W e_i
    expected = torch.block_diag(*(torch.linalg.inv(R) for R in exact(values, damping)))
    torch.testing.assert_close(W.T @ W, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("damping", [0.01, 1.0, *RULES])
def test_scores_are_those_of_the_symmetric_root(damping: float | str) -> None:
    """Cholesky's W and R^{-1/2} differ by a rotation, which no inner product sees."""
    values = features()
    psi = of(values, damping).whiten(values).double()
    roots = []
    for R in exact(values, damping):
        sigma, vectors = torch.linalg.eigh(R)
        roots.append((vectors / sigma.sqrt()) @ vectors.T)
    G = torch.cat([part @ root for part, root in zip(values.double().split(WIDTH, 1), roots, strict=True)], 1)
    expected = G @ G.T
    torch.testing.assert_close(psi @ psi.T, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


def test_the_adjoint_undoes_whitening_in_an_inner_product() -> None:
    values = features()
    whitening = of(values, 0.1)
    expected = values[:7].double() @ values.double().T
    found = whitening.adjoint(values[:7]) @ whitening.whiten(values).T
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unwhitening_undoes_whitening(dtype: torch.dtype) -> None:
    values = features().to(dtype)
    whitening = of(features(), 0.1)
    found = whitening.unwhiten(whitening.whiten(values))
    assert found.dtype == dtype
    rtol = 1e-5 if dtype == torch.float32 else 1e-12
    for part, given in zip(found.split(WIDTH, 1), values.split(WIDTH, 1), strict=True):
        torch.testing.assert_close(part, given, rtol=rtol, atol=rtol * float(given.abs().max()))


def test_a_block_does_not_see_the_others() -> None:
    values = features()
    whitening = of(values, 1.0)
    assert len(whitening) == BLOCKS
    changed = values.clone()
    changed[:, WIDTH : 2 * WIDTH] *= -3
    for transform in (whitening.whiten, whitening.adjoint, whitening.unwhiten):
        before, after = (split_blocks(transform(v), BLOCKS) for v in (values, changed))
        assert torch.equal(before[0], after[0])
        torch.testing.assert_close(after[1], -3 * before[1])
        assert torch.equal(before[2], after[2])


def test_rows_are_left_as_they_were() -> None:
    values = features()
    whitening = of(values, 1.0)
    for transform in (whitening.whiten, whitening.adjoint, whitening.unwhiten):
        transform(values)
        assert torch.equal(values, features())


def test_a_block_of_zeros_is_damped_as_if_its_scale_were_one() -> None:
    values = features()
    values[:, :WIDTH] = 0
    whitening = of(values, 0.25)
    torch.testing.assert_close(whitening.blocks[0].factor, 0.5 * torch.eye(WIDTH))
    assert torch.equal(whitening.whiten(values)[:, :WIDTH], torch.zeros(40, WIDTH))
    assert whitening.eigenvalues[0].tolist() == [0.25] * WIDTH


@pytest.mark.parametrize("damping", [0.3, *RULES])
def test_damped_eigenvalues_are_those_of_the_damped_matrix(damping: float | str) -> None:
    values = features()
    found = of(values, damping).eigenvalues
    assert found.shape == (BLOCKS, WIDTH)
    for row, R in zip(found, exact(values, damping), strict=True):
        torch.testing.assert_close(row.double(), torch.linalg.eigvalsh(R).flip(0), rtol=1e-4, atol=0)


def test_eigenvalues_that_are_known_are_taken_as_they_are() -> None:
    block = hessian_of(features()[:, :WIDTH])
    found, known = BlockWhitening.of(block, 0.5), torch.arange(float(WIDTH)).flip(0)
    given = BlockWhitening.of(block, 0.5, known)
    assert torch.equal(found.eigenvalues, block.eigenvalues())
    assert torch.equal(given.eigenvalues, known)
    assert torch.equal(given.factor, found.factor)


@pytest.mark.parametrize("damping", [0.5, "oas"])
def test_a_whitening_comes_back_from_its_tensors_as_it_was(damping: float | str) -> None:
    memory = torch.zeros(WIDTH, WIDTH)
    for block in of(features(), damping).blocks:
        tensors = block.pack()
        found, into = BlockWhitening.unpack(tensors), BlockWhitening.unpack(tensors, memory)
        assert into.factor is memory
        for again in (found, into):
            assert torch.equal(again.factor, block.factor)
            assert torch.equal(again.eigenvalues, block.eigenvalues)
            assert again.damping == block.damping
        expected = damped_eigenvalues(tensors["eigenvalues"], tensors["damping"])
        assert torch.equal(found.damped_eigenvalues, expected)


@pytest.mark.parametrize("damping", ["optimal", 0.0, -1.0])
def test_other_dampings_are_refused(damping: float | str) -> None:
    with pytest.raises(InputError, match="ledoit-wolf"):
        of(features(), damping)


@pytest.mark.parametrize("new", [0.01, 1.0, 30.0, *RULES])
@pytest.mark.parametrize("old", [0.5, "oas"])
def test_rows_whitened_anew_are_as_if_whitened_so_at_first(old: float | str, new: float | str) -> None:
    values = features()
    before, after = of(values, old), of(values, new)
    turn = Rewhitening.between(before.blocks, after.blocks)
    found, expected = turn(before.whiten(values)), after.whiten(values)
    assert ((found - expected).norm(dim=1) / expected.norm(dim=1)).max() < 1e-5


def one_by_one(rows: int, size: float) -> Tensor:
    """Features [n, w] of one coordinate each, all as often: R is a multiple of the identity."""
    return size * torch.eye(WIDTH).repeat(rows // WIDTH, 1)


def very_unlike_blocks() -> Tensor:
    """Features of which R is all signal in the first block, and nothing but noise in the others."""
    rows = 100 * WIDTH
    generator = torch.Generator().manual_seed(5)
    signal = torch.randn(rows, WIDTH, generator=generator) * torch.logspace(0, -2, WIDTH)
    # a few rows that are all of a block leave a mean that says nothing of what others would be
    rare = 1e-3 * torch.randn(rows, WIDTH, generator=generator)
    rare[:4] += 50 * torch.randn(4, WIDTH, generator=generator)
    return torch.cat([signal, 3e-3 * one_by_one(rows, 1.0), rare], 1)


@pytest.mark.parametrize("rule", RULES)
def test_blocks_keep_their_mean_eigenvalue_however_unlike_their_shrinkage(rule: str) -> None:
    values = very_unlike_blocks()
    whitening = of(values, rule)
    shares = [block.damping.ridge for block in whitening.blocks]
    assert shares[0] < 0.02
    assert shares[1] == LARGEST
    for block, part in zip(whitening.blocks, split_blocks(values.double(), BLOCKS), strict=True):
        mean = float(part.square().sum()) / len(part) / WIDTH
        factor = block.factor.double()
        assert float((factor @ factor.T).diagonal().mean()) == pytest.approx(mean, rel=1e-5)
        assert float(block.damped_eigenvalues.double().mean()) == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_a_block_at_the_cap_counts_as_its_identity_whitened_part_does(rule: str) -> None:
    """``R + ρ/(1 − ρ) μI`` is a thousand times the shrunk R there, and the block next to nothing."""
    values = very_unlike_blocks()[:, : 2 * WIDTH]
    whitening = whitening_of(values, 2, rule)
    assert whitening.blocks[1].damping == Damping(1 - LARGEST, LARGEST)
    picked = values[:: WIDTH // 2 + 1]
    signal, alike = split_blocks(picked, 2)
    expected = torch.cat([whitening.blocks[0].whiten(signal), alike / (3e-3 / WIDTH**0.5)], 1).double()
    share = expected[:, WIDTH:].square().sum(1) / expected.square().sum(1)
    assert (share > 0.1).all()  # else nothing would be seen of the block
    scan = QueryScan(QueryTerms(picked[:9], whitening), InnerProduct("train", unit_norm=True))
    found = scan.scores(shard_of(whitening.whiten(picked))).double()
    units = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, units[:9] @ units.T, rtol=0, atol=1e-5)
