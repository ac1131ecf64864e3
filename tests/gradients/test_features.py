"""The factored path against plain per-example autograd, for every family of models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.features import extractor, sampled_moments
from tests.models import FAMILIES, make_model, tiny_model
from tests.references.gradients import exact_feature, full_second_moments, weight_gradients

from proponent.gradients.layers import plan_layers
from proponent.gradients.model import load_model
from proponent.gradients.moments import SecondMoments
from proponent.gradients.outputs import OUTPUT_FUNCTIONS
from proponent.products import product

ROWS = [[0, 5, 9, 200, 31, 7], [0, 17, 3], [0, 44, 250, 12, 8, 90, 91, 3, 77, 1, 2, 60, 61, 62], [0, 9, 9, 4]]
STARTS = [1, 1, 1, 1]


def rank_one(moments: SecondMoments) -> torch.Tensor:
    """The full V [o, i] that factored second moments stand for."""
    r, c = moments.rows.double(), moments.columns.double()
    return torch.outer(r, c) / r.sum()


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Relative 1e-4 of the size of a feature's coordinates, in float32."""
    scale = expected.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(found / scale, expected / scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_autograd(family: str, tmp_path: Path) -> None:
    model = tiny_model(tmp_path, family)
    plan = plan_layers(model, dim=6 * 25, layer_groups=8)
    assert len(plan.blocks) == 6
    assert plan.side == 5
    moments = sampled_moments(model, plan, ROWS, batch_tokens=20)
    found = extractor(model, plan, moments, 3, batch_tokens=20)(ROWS, STARTS, "loss")
    full = {name: rank_one(value) for name, value in moments.items()}
    expected = torch.stack(
        [exact_feature(weight_gradients(model, plan.matrices, row, 1), plan, full, 3) for row in ROWS]
    )
    assert_close(found, expected)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "phi", "gemma2"])
def test_sampled_moments_are_the_sums_of_the_exact_ones(family: str, tmp_path: Path) -> None:
    model = tiny_model(tmp_path, family)
    plan = plan_layers(model, 96, 8)
    found = sampled_moments(model, plan, ROWS, batch_tokens=20)
    for name, full in full_second_moments(model, plan.matrices, ROWS).items():
        torch.testing.assert_close(found[name].rows.double(), full.sum(1), rtol=1e-4, atol=0)
        torch.testing.assert_close(found[name].columns.double(), full.sum(0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("output", OUTPUT_FUNCTIONS)
def test_query_features_are_of_the_target_tokens_alone(output: str, tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "gemma2")
    plan = plan_layers(model, 96, 8)
    ones = {m.name: SecondMoments.ones(m) for m in plan.matrices}
    starts = [4, 2, 9, 1]
    found = extractor(model, plan, ones, 0, batch_tokens=100)(ROWS, starts, output)
    full = {m.name: torch.ones(sum(m.outputs), m.inputs) for m in plan.matrices}
    for row, start, feature in zip(ROWS, starts, found, strict=True):
        gradients = weight_gradients(model, plan.matrices, row, start, output)
        assert_close(feature, exact_feature(gradients, plan, full, 0))


def test_batching_and_padding_change_nothing(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "mistral")
    plan = plan_layers(model, 96, 2)
    ones = {m.name: SecondMoments.ones(m) for m in plan.matrices}
    together = extractor(model, plan, ones, 0, batch_tokens=1000)(ROWS, STARTS, "loss")
    alone = extractor(model, plan, ones, 0, batch_tokens=1)(ROWS, STARTS, "loss")
    assert_close(together, alone)


def test_few_logits_at_a_time_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tmp_path, "gemma2")
    plan = plan_layers(model, 96, 2)
    ones = {m.name: SecondMoments.ones(m) for m in plan.matrices}
    extract = extractor(model, plan, ones, 0, batch_tokens=1000)
    whole = extract(ROWS, STARTS, "loss")
    monkeypatch.setattr("proponent.gradients.backprop.slice_rows", lambda _: 2)
    assert_close(extract(ROWS, STARTS, "loss"), whole)


def test_no_weight_gradient_is_ever_computed(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "llama")
    plan = plan_layers(model, 96, 2)
    ones = {m.name: SecondMoments.ones(m) for m in plan.matrices}
    extractor(model, plan, ones, 0, batch_tokens=1000)(ROWS, STARTS, "loss")
    assert all(p.grad is None and not p.requires_grad for p in model.causal.parameters())


def test_a_broken_row_leaves_the_others_alone(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "llama")
    with torch.no_grad():
        model.causal.get_input_embeddings().weight[44] = float("nan")
    plan = plan_layers(model, 96, 2)
    moments = sampled_moments(model, plan, ROWS, batch_tokens=1000)
    assert all(m.rows.isfinite().all() and m.columns.isfinite().all() for m in moments.values())
    extract = extractor(model, plan, moments, 0, batch_tokens=1000)
    together = extract(ROWS, STARTS, "loss")
    assert together.isfinite().all(1).tolist() == [True, True, False, True]
    alone = extract([ROWS[0], ROWS[1], ROWS[3]], STARTS[:3], "loss")
    assert_close(together[[0, 1, 3]], alone)


def test_bfloat16_features_point_the_same_way(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "llama")
    features = []
    for dtype in ("float32", "bfloat16"):
        model = load_model(str(folder), device="cpu")
        model.multiply_in(dtype)
        plan = plan_layers(model, 96, 2)
        ones = {m.name: SecondMoments.ones(m) for m in plan.matrices}
        features.append(extractor(model, plan, ones, 0, batch_tokens=1000)(ROWS, STARTS, "loss"))
    assert features[1].dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(*features).min() > 0.98


def test_projections_have_the_precision_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[torch.dtype] = set()

    def noting(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        used.add(weight.dtype)
        return product(rows, weight)

    monkeypatch.setattr("proponent.gradients.features.product", noting)
    model = tiny_model(tmp_path, "gpt2")
    plan = plan_layers(model, 96, 2)
    ones = {m.name: SecondMoments.ones(m) for m in plan.matrices}
    for dtype in (torch.float32, torch.bfloat16):
        model.multiply_in(str(dtype).removeprefix("torch."))
        used.clear()
        extractor(model, plan, ones, 0, batch_tokens=1000)(ROWS, STARTS, "loss")
        assert used == {dtype}
