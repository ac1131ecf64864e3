"""What is said to be left out, against plain autograd through every parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.models import VOCABULARY, byte_tokenizer
from transformers import AutoModelForCausalLM, MambaConfig, PreTrainedConfig, RwkvConfig, XLMConfig

from proponent.corpus.encoding import TextEncoder
from proponent.gradients import coverage
from proponent.gradients.coverage import uncovered
from proponent.gradients.layers import find_matrices
from proponent.gradients.model import LanguageModel

Shared = Callable[[str], LanguageModel]
ROW = [0, 5, 9, 200, 31, 7, 7, 8]
SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 2}
# Each keeps weights that are no matrix of a linear module that is called.
CONFIGS: dict[str, tuple[PreTrainedConfig, set[str]]] = {
    "mamba": (MambaConfig(**SMALL, state_size=4), {"A_log", "conv1d.weight", "dt_proj.weight"}),
    "rwkv": (RwkvConfig(**SMALL, attention_hidden_size=24, context_length=64), {"attention.time_mix_key"}),
    # its MLPs are in a list beside that of its attention
    "xlm": (
        XLMConfig(vocab_size=VOCABULARY, emb_dim=24, n_layers=2, n_heads=4, causal=True, pad_token_id=299),
        {"ffns.0.lin1.weight", "ffns.1.lin2.weight"},
    ),
}


def random_model(config: PreTrainedConfig) -> LanguageModel:
    torch.manual_seed(0)
    causal = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for weight in causal.parameters():
        weight.add_(torch.randn_like(weight) * 0.1)
    model = LanguageModel(causal, torch.device("cpu"), TextEncoder(byte_tokenizer()), 64)
    model.multiply_in("float32")
    return model


def autograd_squares(model: LanguageModel) -> dict[str, float]:
    """‖g‖² of every weight of two or more dimensions that is in no embedding and not in the head."""
    causal = model.causal.requires_grad_(True)
    logits = causal(input_ids=torch.tensor([ROW]), use_cache=False).logits[0]
    torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ROW[1:]), reduction="sum").backward()
    left = ("embed", "head.", "pred_layer")
    squares = {
        name: float(weight.grad.double().square().sum())
        for name, weight in causal.named_parameters()
        if weight.dim() > 1 and weight.grad is not None and not any(word in name for word in left)
    }
    causal.zero_grad()
    causal.requires_grad_(False)
    return {name: square for name, square in squares.items() if square}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", CONFIGS)
def test_shares_are_those_of_autograd(family: str) -> None:
    config, names = CONFIGS[family]
    model = random_model(config)
    matrices = find_matrices(model)
    found = uncovered(model, matrices, ROW)
    squares = autograd_squares(model)
    planned = {f"{path}.weight" for m in matrices for path in m.modules}
    expected = {name: value / sum(squares.values()) for name, value in squares.items() if name not in planned}
    assert found == pytest.approx(expected, rel=1e-3)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert all(any(name.endswith(tail) for name in found) for tail in names)


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi", "gemma2"])
def test_nothing_is_left_out_of_a_transformer(family: str, shared_model: Shared) -> None:
    model = shared_model(family)
    assert uncovered(model, find_matrices(model), ROW) == {}


def test_a_matrix_that_is_left_out_is_named(shared_model: Shared) -> None:
    model = shared_model("llama")
    matrices = find_matrices(model)
    found = uncovered(model, matrices[1:], ROW)
    assert sorted(found) == sorted(f"{path}.weight" for path in matrices[0].modules)
    assert uncovered(model, [], ROW).keys() > found.keys()
    assert sum(uncovered(model, [], ROW).values()) == pytest.approx(1)


def test_one_gradient_exists_at_a_time_and_none_is_left(
    shared_model: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shared_model("llama")
    weights = list(model.causal.parameters())
    held: list[int] = []

    def watched(*arguments: Any) -> None:
        for weight in weights:
            if weight.requires_grad:
                weight.register_post_accumulate_grad_hook(
                    lambda _: held.append(sum(w.grad is not None for w in weights))
                )
        backpropagate(*arguments)

    backpropagate = coverage.backpropagate
    monkeypatch.setattr(coverage, "backpropagate", watched)
    uncovered(model, find_matrices(model), ROW)
    assert set(held) == {0}, "after a weight's hook its gradient is gone"
    assert all(weight.grad is None and not weight.requires_grad for weight in weights)


def test_the_model_is_frozen_again_after_an_error(shared_model: Shared) -> None:
    model = shared_model("llama")
    with pytest.raises(IndexError):
        uncovered(model, find_matrices(model), [0, VOCABULARY, 1])
    assert all(weight.grad is None and not weight.requires_grad for weight in model.causal.parameters())
