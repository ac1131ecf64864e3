"""Lower bounds by their adversaries: what a method does not look at is changed, and so is the answer."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from tests.index.cases import identity
from tests.scale.cases import DIM, GROUPS, NO_MODEL, job_of, ones, small_model, token_rows
from tests.scale.counting import Counted
from torch import Tensor

from proponent.gradients.features import FeatureExtractor
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import fold_moments
from proponent.index.codec import Rows
from proponent.index.damping import Damping
from proponent.index.hessian import HessianSum
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import Shard, search
from proponent.index.whitening import BlockWhitening, Whitening
from proponent.scale import bounds, cost
from proponent.scale.bounds import CODE_VALUES
from proponent.scale.questions import Questions, trace_stages
from proponent.scale.shapes import FeatureShape, Job
from proponent.scale.stages import Stage

# --- search -----------------------------------------------------------------------------------------


def found(signs: Tensor, query: Tensor) -> list[list[int]]:
    """Numbers of the highest and the lowest row of codes ±1, by the code's own search at unit norm."""
    norms = torch.full((len(signs),), signs.shape[1] ** 0.5)
    shard = Shard(0, Rows(signs.half(), torch.ones(len(signs)), norms), norms)
    terms = QueryTerms(query[None], identity(1, len(query)))
    hits = search([shard], QueryScan(terms, InnerProduct("train", unit_norm=True)), 1)
    return [hits.proponent_positions.flatten().tolist(), hits.opponent_positions.flatten().tolist()]


def test_a_code_that_is_not_read_may_change_the_answer() -> None:
    # rows all alike, so that scale and norms, which no sign changes, tell nothing
    generator = torch.Generator().manual_seed(0)
    rows, dim = 5, 8
    query = torch.rand(dim, generator=generator) + 0.1
    signs = torch.randn(dim, generator=generator).sign().repeat(rows, 1)
    answer = found(signs, query)
    for row, coordinate in product(range(rows), range(dim)):
        other = signs.clone()
        other[row, coordinate] *= -1
        assert found(other, query) != answer, (row, coordinate)


def test_the_code_reads_each_row_a_scan_and_a_checksum() -> None:
    job = Job(NO_MODEL, FeatureShape(16, 64), passages=1000, tokens=8)
    assert bounds.scan_bound(job) == 2 * 1000 * 65_536
    one, many = (scan_of(job, queries).read for queries in (1, 2000))
    assert one / bounds.scan_bound(job) == pytest.approx(2, rel=1e-3)
    assert many / bounds.scan_bound(job) == pytest.approx(3, rel=1e-3)


def scan_of(job: Job, queries: int) -> Stage:
    return next(stage for stage in trace_stages(job, Questions(queries)) if stage.name == "scan")


# --- gradients --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return small_model("eager")


def features_of(model: LanguageModel) -> Tensor:
    plan = plan_layers(model, DIM, GROUPS)
    extractor = FeatureExtractor(model, plan, fold_moments(plan, ones(model), 0), 64)
    return extractor(token_rows(1, 9), [1], "loss").view(len(plan.blocks), -1)


def test_every_matrix_is_needed_forward_and_back(model: LanguageModel) -> None:
    """A weight moves the features of the layers above it, by the forward pass, and of those below, by the
    backward pass; the first matrix has nothing below."""
    before, plan = features_of(model), plan_layers(model, DIM, GROUPS)
    for b, block in enumerate(plan.blocks):
        for path in (path for matrix in block.matrices for path in matrix.modules):
            weight = model.causal.get_submodule(path).weight
            entry = (int(weight.shape[0]) // 2, int(weight.shape[1]) // 3)
            kept = float(weight[entry])
            weight[entry] += 1.0
            moved = (features_of(model) - before).abs().amax(1) > 1e-6
            weight[entry] = kept
            assert moved[b:].all(), f"{path}: forward"
            assert moved[:b].all(), f"{path}: back"


@pytest.mark.parametrize(("rows", "tokens"), [(4, 33), (1, 129)])
def test_the_pass_does_no_less_than_its_bound(model: LanguageModel, rows: int, tokens: int) -> None:
    job, plan = job_of(model, rows, tokens), plan_layers(model, DIM, GROUPS)
    extractor = FeatureExtractor(model, plan, fold_moments(plan, ones(model), 0), job.batch_tokens)
    with Counted() as counted:
        extractor(token_rows(rows, tokens), [1] * rows, "loss")
    least = rows * bounds.gradient_bound(job.model, tokens)
    assert counted.operations > least
    # without attention, whose products are made of all pairs here, only the projections are left
    alone = replace(job.model, attention=0)
    projections = rows * cost.feature_operations(job.model, job.features, tokens)
    unfused = 12 * rows * (tokens - 1) ** 2 * job.model.attention
    assert counted.operations - projections - unfused == rows * bounds.gradient_bound(alone, tokens)


# --- corrections ------------------------------------------------------------------------------------


def test_every_entry_of_the_hessian_tells_two_corpora_apart() -> None:
    width = 5
    entries = 0
    for i, j in product(range(width), range(width)):
        if j > i:
            continue
        one, other = torch.zeros(2, 2, width)
        if i == j:
            one[0, i], other[0, i] = 1.0, 2.0
        else:  # the same squares, once apart and once in one passage
            one[0, i] = one[1, j] = 2**0.5
            other[:, i] = other[:, j] = 1.0
        sums = []
        for features in (one, other):
            total = HessianSum.empty(width)
            total.add(features)
            sums.append(total.total.tril())
        differ = (sums[0] - sums[1]).abs() > 1e-6
        assert differ.nonzero().tolist() == [[i, j]]
        entries += 1
    assert bounds.hessian_bound(FeatureShape(1, 1)) == 2, "one entry: a product and a sum"
    assert 2 * entries == width * (width + 1)


def test_every_entry_of_a_factor_and_of_a_passage_is_needed() -> None:
    width, generator = 6, torch.Generator().manual_seed(0)
    factor = torch.randn(width, width, generator=generator).tril() + 4 * torch.eye(width)
    phi = torch.randn(1, width, generator=generator)

    def whitened(factor: Tensor, phi: Tensor) -> Tensor:
        return Whitening((BlockWhitening(factor, torch.ones(width), Damping(1.0, 1.0)),)).whiten(phi)

    before, used = whitened(factor, phi), 0
    for i, j in zip(*torch.tril_indices(width, width).tolist(), strict=True):
        other = factor.clone()
        other[i, j] += 1.0
        assert (whitened(other, phi) - before).abs().max() > 1e-4
        used += 2 if i != j else 1
    assert bounds.whitening_bound(FeatureShape(1, 1)) == 1
    assert used == width**2, "a product and a sum below the diagonal, a division on it"
    for j in range(width):
        other = phi.clone()
        other[0, j] += 1.0
        assert (whitened(factor, other) - before).abs().max() > 1e-4


# --- disk -------------------------------------------------------------------------------------------


def test_a_query_tells_any_two_codes_apart() -> None:
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    values = every[every.isfinite()].float().unique()
    assert len(values) == CODE_VALUES
    job = Job(NO_MODEL, FeatureShape(1, 1), passages=1000, tokens=8)
    # as many bytes as name one of all collections of a thousand codes
    assert 2 ** (8 * bounds.disk_bound(job)) <= CODE_VALUES**1000 < 2 ** (8 * (bounds.disk_bound(job) + 1))
    assert bounds.disk_bound(job) > 0.99 * 2 * 1000


# --- distances --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [8, 512])
@pytest.mark.parametrize("side", [8, 20, 64])
def test_nothing_spends_less_than_its_bound(tokens: int, side: int) -> None:
    job = Job(NO_MODEL, FeatureShape(4, side), passages=20_000, tokens=tokens)
    every = bounds.bounds(job)
    assert len({(bound.name, bound.unit) for bound in every}) == len(every) == 6
    for bound in every:
        assert bound.least > 0
        assert bound.distance >= 1, bound


def test_distances_at_a_wide_block() -> None:
    job = Job(NO_MODEL, FeatureShape(16, 64), passages=1_000_000, tokens=512)
    distance = {(bound.name, bound.unit): bound.distance for bound in bounds.bounds(job)}
    assert distance["R", "operations"] == pytest.approx((4096 + 512) / 4097)
    assert distance["whitening", "operations"] == pytest.approx(1 + 128 / 4096 + 128**2 / 4096 / 256, 1e-3)
    assert distance["scan", "bytes read"] == pytest.approx(2, rel=1e-3)
    assert distance["index", "bytes on disk"] < 1.02


@pytest.mark.parametrize("size", [64, 4096])
def test_a_compact_index_is_close_to_its_bounds(size: int) -> None:
    features = FeatureShape(16, 64, identity=True, size=size)
    job = Job(NO_MODEL, features, passages=1_000_000, tokens=512)
    every = {bound.name: bound for bound in bounds.bounds(job)}
    assert list(every) == ["gradients", "index", "scan"]
    assert every["index"].least == every["scan"].least == 1_000_000 * size
    assert all(bound.distance >= 1 for bound in every.values())
    # scale, two norms and residual; read for a checksum and for the scan
    assert every["scan"].distance == pytest.approx(2 * (size + 16) / size)
