"""A row's features are its own: whatever rows share its batch, and however long those are."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features import extractor
from tests.folders import save_random
from tests.models import FAMILIES, GROUPED
from tests.references.gradients import exact_feature, weight_gradients
from torch import Tensor
from transformers import AutoModelForCausalLM, Phi3Config

from proponent.gradients.features import FeatureExtractor
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import LanguageModel, load_model

BREAK = 16
LONGROPE = Phi3Config(
    **GROUPED,
    original_max_position_embeddings=BREAK,
    rope_parameters={
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 3,
        "long_factor": [4.0, 8.0, 16.0],
        "original_max_position_embeddings": BREAK,
    },
)


def row(length: int, seed: int) -> list[int]:
    draw = torch.randint(1, 250, (length - 1,), generator=torch.Generator().manual_seed(seed))
    return [0, *draw.tolist()]


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Relative 1e-4 of a feature's largest coordinate, in float32."""
    scale = expected.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(found / scale, expected / scale, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="session")
def extract(
    shared_model: Callable[[str], LanguageModel], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], FeatureExtractor]:
    @cache
    def made(family: str) -> FeatureExtractor:
        if family == "phi3 longrope":
            folder = save_random(
                AutoModelForCausalLM.from_config(LONGROPE), tmp_path_factory.mktemp("longrope")
            )
            model = load_model(str(folder), device="cpu")
            assert model.position_break == BREAK
        else:
            model = shared_model(family)
        return extractor(model, plan_layers(model, 96, 2))

    return made


@pytest.mark.parametrize("family", [*FAMILIES, "phi3 longrope"])
@given(lengths=st.lists(st.integers(2, 30), min_size=2, max_size=4))
@settings(max_examples=4)
def test_features_do_not_depend_on_the_batch(
    family: str, lengths: list[int], extract: Callable[[str], FeatureExtractor]
) -> None:
    rows = [row(length, n) for n, length in enumerate(lengths)]
    own = extract(family)
    together = own(rows, [1] * len(rows), "loss")
    assert_close(together, torch.cat([own([one], [1], "loss") for one in rows]))


@pytest.mark.parametrize("length", [BREAK - 1, BREAK, BREAK + 1, BREAK + 4])
def test_longrope_takes_the_factors_of_the_whole_row(
    length: int, extract: Callable[[str], FeatureExtractor]
) -> None:
    """Also where leaving out the last token, which predicts nothing, would make the row a short one."""
    own, one = extract("phi3 longrope"), row(length, 5)
    model, plan = own.sweep.model, own.plan
    ones = {m.name: torch.ones(sum(m.outputs), m.inputs) for m in plan.matrices}
    expected = exact_feature(weight_gradients(model, plan.matrices, one, 1), plan, ones, 0)
    assert_close(own([one], [1], "loss")[0], expected)
