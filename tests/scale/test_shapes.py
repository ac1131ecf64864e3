"""Shapes of a configuration against those of the loaded model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.models import FAMILIES, tiny_model
from transformers import LlamaConfig, MixtralConfig

from proponent.errors import InputError
from proponent.scale.shapes import FeatureShape, shapes, shapes_of_config


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_configuration_has_the_shapes_of_its_model(
    family: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    loaded, features = shapes(tiny_model(tmp_path_factory.mktemp("model"), family), 70, 2)
    found, same = shapes_of_config(FAMILIES[family](), 70, 2)
    assert same == features
    assert replace(found, kept=0) == replace(loaded, kept=0)
    # with a mask, which a model run for real may do without, grouped keys and values are repeated
    assert loaded.kept <= found.kept <= 1.15 * loaded.kept


def test_a_large_model_needs_no_memory() -> None:
    before = torch.get_default_dtype()
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    )
    model, features = shapes_of_config(config, 2**16, 8)
    assert model.parameters == 8_030_261_248, "Llama-3-8B"
    layer = ((4096, 6144), (4096, 4096), (4096, 28_672), (14_336, 4096))
    assert model.matrices == layer * 32
    assert model.early == 6 * sum(i * o for i, o in layer), "a sixth of the layers, rounded up"
    assert (model.hidden, model.vocabulary, model.attention) == (4096, 128_256, 32 * 4096)
    assert features == FeatureShape(16, 64)
    assert torch.get_default_dtype() == before


def test_an_architecture_that_is_not_supported_is_refused() -> None:
    config = MixtralConfig(
        vocab_size=50, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(InputError, match="only layers whose weights are the matrices"):
        shapes_of_config(config, 64, 1)
