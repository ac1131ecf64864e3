"""Model folders for tests to spoil, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from proponent.errors import InputError
from proponent.gradients.model import load_model
from tests.models import byte_tokenizer


def refusal(folder: Path | str, **arguments: Any) -> str:
    """The one line of the InputError that loading ends with."""
    with pytest.raises(InputError) as caught:
        load_model(str(folder), **{"device": "cpu", **arguments})
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def save_random(model: PreTrainedModel, folder: Path) -> Path:
    """Save a model with its weights moved far enough for attention to matter, and a tokenizer."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
