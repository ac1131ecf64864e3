"""The batched low-rank tail-patch against a model whose weights are really stepped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.features import sampled_moments
from tests.folders import save_random
from tests.models import COMMON, GROUPED, tiny_model
from tests.references.tail_patch import stepped_probability, target_probability
from transformers import AutoModelForCausalLM, OPTConfig, Phi3Config

from proponent.attribute.tail_patch import PatchStep, TailPatcher
from proponent.corpus.example import EncodedQuery
from proponent.errors import InputError
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import load_model
from proponent.gradients.moments import SecondMoments

PASSAGES = [(0, 5, 9, 200, 31, 7), (0, 17, 3), (0, 44, 250, 12, 8, 90, 91, 3, 77, 1), (0, 9, 9, 4)]


UNUSUAL = {
    "opt": OPTConfig(**{**COMMON, "intermediate_size": None}, ffn_dim=40, word_embed_proj_dim=24),
    "longrope": Phi3Config(
        **GROUPED,
        original_max_position_embeddings=5,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 3,
            "long_factor": [4.0, 8.0, 16.0],
            "original_max_position_embeddings": 5,
        },
    ),
}


def encoded(tokens: tuple[int, ...], boundary: int) -> EncodedQuery:
    return EncodedQuery(tokens, boundary)


QUERIES = [encoded((0, 5, 9, 201), 3), encoded((0, 7, 7, 13, 15, 2), 4), encoded((0, 3), 1)]
PAIRS = [(QUERIES[0], 0), (QUERIES[1], 0), (QUERIES[2], 3), (QUERIES[0], 1), (QUERIES[1], 2), (QUERIES[0], 3)]
STEPS = [PatchStep(0.01), PatchStep(0.003, relative=False), PatchStep(0.02, clip=0.3)]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2"])
@pytest.mark.parametrize("step", STEPS, ids=["relative", "absolute", "clipped"])
def test_batched_steps_are_real_steps(family: str, step: PatchStep, tmp_path: Path) -> None:
    model = tiny_model(tmp_path, family)
    matrices = plan_layers(model, 96, 8).matrices
    moments = sampled_moments(model, plan_layers(model, 96, 8), PASSAGES, 100)
    before = {name: value.clone() for name, value in model.causal.state_dict().items()}
    found = dict(TailPatcher(model, matrices, moments, step, batch_tokens=12).patched(PASSAGES, PAIRS))
    assert sorted(found) == list(range(len(PAIRS)))
    for number, (query, passage) in enumerate(PAIRS):
        slow = stepped_probability(model, matrices, moments, step, PASSAGES[passage], query)
        assert slow != pytest.approx(target_probability(model, query), rel=1e-3)  # the step does something
        assert found[number] == pytest.approx(slow, rel=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in model.causal.state_dict().items())


def of_mean_losses(moments: dict[str, SecondMoments], tokens: int) -> dict[str, SecondMoments]:
    """V as an optimizer keeps it, of passages with so many scored tokens: their mean loss is a fraction."""
    return {
        name: SecondMoments(own.rows / tokens**2, own.columns / tokens**2, of_mean=True)
        for name, own in moments.items()
    }


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_step_takes_the_gradient_in_the_unit_of_v(family: str, tmp_path: Path) -> None:
    """With a summed gradient over V of mean losses the clip would bind, whatever the passage."""
    model = tiny_model(tmp_path, family)
    plan = plan_layers(model, 96, 8)
    alike = [(0, 5, 9, 200, 31, 7), (0, 44, 250, 12, 8, 90)]
    moments, step = sampled_moments(model, plan, alike, 100), PatchStep(0.003, clip=2.0)
    mean = of_mean_losses(moments, tokens=5)
    pairs = [(query, passage) for query in QUERIES for passage in (0, 1)]
    expected = dict(TailPatcher(model, plan.matrices, moments, step, 100).patched(alike, pairs))
    found = dict(TailPatcher(model, plan.matrices, mean, step, 100).patched(alike, pairs))
    assert found == pytest.approx(expected, rel=1e-4)
    for number, (query, passage) in enumerate(pairs):
        slow = stepped_probability(model, plan.matrices, mean, step, alike[passage], query)
        assert found[number] == pytest.approx(slow, rel=1e-3)
    wrong = {name: replace(own, of_mean=False) for name, own in mean.items()}
    clipped = dict(TailPatcher(model, plan.matrices, wrong, step, 100).patched(alike, pairs))
    assert clipped != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("family", ["opt", "longrope"])
def test_batched_steps_of_layers_that_read_flattened_rows_or_other_positions(
    family: str, tmp_path: Path
) -> None:
    model = load_model(str(save_random(AutoModelForCausalLM.from_config(UNUSUAL[family]), tmp_path)), "cpu")
    plan, step = plan_layers(model, 96, 8), STEPS[0]
    moments = sampled_moments(model, plan, PASSAGES, 100)
    found = dict(TailPatcher(model, plan.matrices, moments, step, batch_tokens=30).patched(PASSAGES, PAIRS))
    for number, (query, passage) in enumerate(PAIRS):
        slow = stepped_probability(model, plan.matrices, moments, step, PASSAGES[passage], query)
        assert found[number] == pytest.approx(slow, rel=1e-3)


def test_probabilities_are_the_models_own(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "gemma2")
    matrices = plan_layers(model, 96, 8).matrices
    moments = sampled_moments(model, plan_layers(model, 96, 8), PASSAGES, 100)
    patcher = TailPatcher(model, matrices, moments, PatchStep(), batch_tokens=8)
    for query, found in zip(QUERIES, patcher.probabilities(QUERIES), strict=True):
        assert found == pytest.approx(target_probability(model, query), rel=1e-5)


def test_the_step_is_that_of_the_models_own_pretraining(tmp_path: Path) -> None:
    assert PatchStep.for_model(str(tmp_path)) == PatchStep()
    assert PatchStep.for_model(str(tmp_path), 0.5) == PatchStep(0.5)
    (tmp_path / "pretrain.json").write_text(json.dumps({"settings": {"learning_rate": 0.002, "batch": 8}}))
    assert PatchStep.for_model(str(tmp_path)) == PatchStep(0.00025, relative=False)
    with pytest.raises(InputError, match="learning rate"):
        PatchStep.for_model(str(tmp_path), -1.0)
