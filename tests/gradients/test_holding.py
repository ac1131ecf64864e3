"""Weights held as they are stored give what float32 gives; what does not fit is refused before it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models import FAMILIES, byte_tokenizer, make_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from proponent.errors import InputError
from proponent.gradients import holding
from proponent.gradients.coverage import uncovered
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.holding import WeightSizes, weight_sizes
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.moments import fold_moments, sample_moments
from proponent.gradients.sweep import Sweep

ROWS = [(1, 5, 9, 200, 31, 7), (2, 8, 8, 41)]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of some families, stored in bfloat16."""
    folders = {}
    for family in ("llama", "gemma2", "gpt2", "gpt_neox"):
        whole = make_model(tmp_path_factory.mktemp("models") / family, family)
        causal = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.bfloat16)
        folders[family] = whole.parent / f"{family}-half"
        causal.save_pretrained(folders[family])
        byte_tokenizer().save_pretrained(folders[family])
    return folders


def leave(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(holding, "available", lambda _: int(free))


def features(model: LanguageModel, dtype: str) -> Tensor:
    plan = plan_layers(model, 70, 2)
    moments = sample_moments(Sweep(model, plan.matrices, 100), ROWS, [1, 1])
    model.multiply_in(dtype)
    return FeatureExtractor(model, plan, fold_moments(plan, moments, 0), 100)(ROWS, [1, 1], "loss")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_features_are_the_same_to_the_bit(
    family: str, dtype: str, stored: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(stored[family])
    plain = load_model(folder, "cpu")
    assert {value.dtype for value in plain.causal.parameters()} == {torch.float32}
    sizes = weight_sizes(FAMILIES[family]())
    leave(monkeypatch, sizes.halved / 0.8)
    held = load_model(folder, "cpu")
    plan = plan_layers(held, 70, 2)
    kept = {held.causal.get_submodule(path).weight.dtype for m in plan.matrices for path in m.modules}
    assert kept == {torch.bfloat16}
    assert held.causal.get_input_embeddings().weight.dtype == torch.float32
    assert sum(v.numel() * v.itemsize for v in held.causal.parameters()) == sizes.halved
    assert held.identity == plain.identity
    assert (held.dtype, held.max_positions) == (torch.float32, plain.max_positions)
    assert list(uncovered(held, plan.matrices, ROWS[0])) == list(uncovered(plain, plan.matrices, ROWS[0]))
    assert torch.equal(features(held, dtype), features(plain, dtype))


def test_what_does_not_fit_is_refused_with_what_would(
    stored: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sizes = weight_sizes(FAMILIES["llama"]())
    leave(monkeypatch, sizes.halved)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("it is read"))
    with pytest.raises(InputError, match=r"does not fit: its 28,392 parameters take .* as they are stored"):
        load_model(str(stored["llama"]), "cpu")
    monkeypatch.undo()
    whole = make_model(tmp_path / "whole")
    leave(monkeypatch, sizes.whole)
    with pytest.raises(InputError, match=r"in float32, and cpu has .* save it in bfloat16"):
        load_model(str(whole), "cpu")


def test_a_model_that_would_be_rounded_is_refused(
    stored: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(monkeypatch, weight_sizes(FAMILIES["gemma2"]()).halved / 0.8)
    with pytest.raises(InputError, match=r"its 'model\.embed_tokens\.embed_scale' is rounded"):
        load_model(str(stored["gemma2"]), "cpu")


def test_the_precision_by_what_is_free() -> None:
    sizes = WeightSizes(parameters=1000, linear=800)
    assert (sizes.whole, sizes.halved) == (4000, 2400)
    half, full, rooms = torch.bfloat16, torch.float32, (8000, 7999, 4444, 2667, 2666)
    assert {free: (sizes.held(half, free), sizes.held(full, free)) for free in rooms} == {
        8000: (full, full),
        7999: (half, full),
        4444: (half, None),
        2667: (half, None),
        2666: (None, None),
    }
