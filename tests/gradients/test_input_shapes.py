"""Layers that read other shapes than [n, t, i]: their features, in batches, against plain autograd."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.features import extractor, sampled_moments
from tests.models import COMMON, byte_tokenizer, tiny_model
from tests.references.gradients import exact_feature, full_second_moments, weight_gradients
from transformers import AutoModelForCausalLM, DeepseekV3Config, OPTConfig, PreTrainedConfig

from proponent.corpus.encoding import TextEncoder
from proponent.gradients.layers import LayerPlan, plan_layers
from proponent.gradients.model import LanguageModel

ROWS = [[0, 5, 9, 200, 31, 7], [0, 17, 3], [0, 44, 250, 12, 8, 90, 91]]
# The MLP reads [n * t, i].
OPT = OPTConfig(**{**COMMON, "intermediate_size": None}, ffn_dim=40, word_embed_proj_dim=24)
# Multi-head latent attention: kv_b_proj reads [n, 1, t, i].
LATENT = DeepseekV3Config(
    **COMMON,
    num_key_value_heads=4,
    q_lora_rank=8,
    kv_lora_rank=8,
    qk_rope_head_dim=4,
    qk_nope_head_dim=6,
    v_head_dim=6,
    first_k_dense_replace=3,
)


def random_model(config: PreTrainedConfig) -> LanguageModel:
    """Weights large enough to make every layer matter."""
    torch.manual_seed(0)
    causal = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for weight in causal.parameters():
        weight.add_(torch.randn_like(weight) * 0.15)
    model = LanguageModel(causal, torch.device("cpu"), TextEncoder(byte_tokenizer()), 64)
    model.multiply_in("float32")
    return model


def assert_autograds(found: torch.Tensor, model: LanguageModel, plan: LayerPlan) -> None:
    """Relative 1e-4 of the largest coordinate of each row's feature, in float32."""
    ones = {m.name: torch.ones(sum(m.outputs), m.inputs) for m in plan.matrices}
    for row, feature in zip(ROWS, found, strict=True):
        expected = exact_feature(weight_gradients(model, plan.matrices, row, 1), plan, ones, 0)
        scale = expected.abs().max()
        torch.testing.assert_close(feature / scale, expected / scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "odd"), [(OPT, "fc1"), (LATENT, "kv_b_proj")], ids=["flattened rows", "latent attention"]
)
def test_features_in_batches_are_those_of_autograd(config: PreTrainedConfig, odd: str) -> None:
    model = random_model(config)
    plan = plan_layers(model, 96, 2)
    assert odd in {path.rpartition(".")[2] for m in plan.matrices for path in m.modules}
    assert_autograds(extractor(model, plan)(ROWS, [1, 1, 1], "loss"), model, plan)


@pytest.mark.parametrize("config", [OPT, LATENT], ids=["opt", "latent"])
def test_every_linear_module_is_found(config: PreTrainedConfig) -> None:
    model = random_model(config)
    found = {path for m in plan_layers(model, 96, 2).matrices for path in m.modules}
    linear = {path for path, part in model.causal.named_modules() if isinstance(part, torch.nn.Linear)}
    assert found == linear - {"lm_head"}


@pytest.mark.parametrize("batch_tokens", [1, 1000])
def test_a_module_that_the_loss_does_not_depend_on_leaves_its_neighbours_their_gradient(
    batch_tokens: int, tmp_path: Path
) -> None:
    model = tiny_model(tmp_path, "llama")
    mlp = model.causal.model.layers[1].mlp

    def forward(x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = mlp.down_proj(mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x).detach())
        return made

    mlp.forward = forward
    plan = plan_layers(model, 96, 2)
    (both,) = (m for m in plan.matrices if "model.layers.1.mlp.up_proj" in m.modules)
    assert both.modules == ("model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj")
    own = extractor(model, plan, batch_tokens=batch_tokens)
    assert_autograds(own(ROWS, [1, 1, 1], "loss"), model, plan)
    for name, moments in sampled_moments(model, plan, ROWS, batch_tokens).items():
        full = full_second_moments(model, plan.matrices, ROWS)[name]
        torch.testing.assert_close(moments.rows.double(), full.sum(1), rtol=1e-4, atol=1e-9)
