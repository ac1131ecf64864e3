"""A model whose layers lie on several devices: by real passes where they are one, by fake ones for cards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.features import extractor
from tests.models import FAMILIES, make_model, tiny_model
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from proponent.errors import InputError
from proponent.gradients import placement
from proponent.gradients.backprop import Batch
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.placement import pick_device, pick_devices, place, refuse_spread, shares
from proponent.gradients.projection import Projection

ROWS, STARTS = [[5, 9, 3, 7, 2], [8, 1, 6], [4, 4, 9, 2, 7, 7, 1]], [1, 2, 1]
CARDS = (torch.device("cuda:0"), torch.device("cuda:1"))
FAKE = (torch.device("meta:0"), torch.device("meta:1"))  # autograd needs no driver of them


def test_layers_fill_devices_to_the_same_degree_in_their_order() -> None:
    assert shares([1] * 8, 0, [1, 1]) == [0] * 4 + [1] * 4
    assert shares([1] * 8, 0, [3, 1]) == [0] * 6 + [1] * 2
    assert shares([1] * 8, 4, [1, 1]) == [0] * 2 + [1] * 6, "the first has the rest as well"
    assert shares([1] * 4, 40, [1, 1, 1]) == [1, 1, 2, 2], "and no layer where that is too much already"
    assert shares([5], 0, [1, 1]) == [1]


def test_devices_are_named_as_transformers_users_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_devices("auto") == pick_devices(None) == (torch.device("cpu"),)
    assert pick_devices("cpu, meta") == (torch.device("cpu"), torch.device("meta"))
    with pytest.raises(InputError, match=r"'disk': weights are not read from disk while the model runs"):
        pick_devices("cpu,disk")
    with pytest.raises(InputError, match=r"'balanced' is not known; give 'auto', or devices with commas"):
        pick_devices("balanced")
    with pytest.raises(InputError, match="names cpu twice"):
        pick_devices("cpu,cpu")
    with pytest.raises(InputError, match="names several; give one"):
        pick_device("cpu,meta")
    with pytest.raises(InputError, match="spreads the model over several, and each process has one"):
        refuse_spread("cpu,meta", "each process")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_devices("auto") == CARDS


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_map_that_puts_all_on_the_processor_gives_the_same_bytes(family: str, tmp_path: Path) -> None:
    plain, spread = tiny_model(tmp_path, family), load_model(str(tmp_path), "cpu")
    place(spread.causal, (torch.device("cpu"), torch.device("cpu")))
    found, expected = (
        extractor(model, plan_layers(model, 96, 2))(ROWS, STARTS, "loss") for model in (spread, plain)
    )
    assert torch.equal(found, expected)


def fake_model(family: str, devices: tuple[torch.device, ...]) -> LanguageModel:
    """A model on cards that are not there: shapes and devices are followed, nothing is computed."""
    causal: Any = AutoModelForCausalLM.from_config(FAMILIES[family](), dtype=torch.float32)
    place(causal.eval().requires_grad_(False), devices)
    model = LanguageModel(causal, devices[0], None, None)  # type: ignore[arg-type]
    model.multiply_in("float32")
    return model


class Waiting(TorchDispatchMode):
    """Counts what would make the processor wait for a card, by the name of the operation."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        on_card = [arg for arg in args if isinstance(arg, Tensor) and arg.device.type == "meta"]
        if on_card and (
            name in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select")
            or (name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1]))
            or (name == "_to_copy" and kwargs.get("device") == torch.device("cpu"))
            or (name == "copy_" and args[0].device.type == "cpu" and not (args[2:] or kwargs))
        ):
            self.found.append(name)
        return func(*args, **kwargs)


def moved(module: nn.Module, device: torch.device) -> nn.Module:
    """``Module.to``, which cannot move fake parameters that anything refers to: with new ones."""
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                new = made.setdefault(id(value), nn.Parameter(value.to(device), requires_grad=False))
                part._parameters[name] = new
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.to(device)
    return module


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors are fake, but for a batch's own, which are of the processor and have values there."""

    def really(function: Any) -> Any:
        def called(*args: Any) -> Any:
            with unset_fake_temporarily():
                return function(*args)

        return called

    monkeypatch.setattr(placement, "shares", lambda *_: [0, 0, 1])  # the second block lies on both
    monkeypatch.setattr(nn.Module, "to", moved)
    monkeypatch.setattr(Batch, "of", really(Batch.of))
    monkeypatch.setattr(Batch, "scored", really(Batch.scored))
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_sweep_follows_layers_over_two_cards_and_never_waits(family: str, fake: None) -> None:
    model = fake_model(family, FAKE)
    plan = plan_layers(model, 96, 2)
    sides = {
        m.name: Projection(torch.ones(m.inputs, plan.side), torch.ones(sum(m.outputs), plan.side))
        for m in plan.matrices
    }
    extract = FeatureExtractor(model, plan, sides, 100)
    assert {len(places) for places in extract.places} == {1, 2}
    homes = [model.device_of(matrix.name) for matrix in extract.sweep.matrices]
    assert set(homes) == set(FAKE)
    assert {extract.sides[m.name].inside.device for m in extract.sweep.matrices} == set(FAKE)
    with Waiting() as waiting:
        found = extract(ROWS, STARTS, "loss")
    assert (found.device, found.shape) == (torch.device("cpu"), (3, plan.dim))
    assert waiting.found == []


def test_waiting_is_noticed(fake: None) -> None:
    with Waiting() as waiting:
        values = torch.ones(3, device="meta:0")
        values.cpu()
        torch.empty(3).copy_(values)
        torch.empty(3).copy_(values, non_blocking=True)
    assert waiting.found == ["_to_copy", "copy_"]


def test_without_the_hooks_a_spread_model_does_not_run(fake: None) -> None:
    model = fake_model("llama", FAKE)
    for layer in model.causal.model.layers:
        layer._forward_pre_hooks.clear()
    with pytest.raises(Exception, match="device"):
        model.hidden(torch.tensor([[1, 2, 3]], device="meta:0"))


def test_a_model_is_loaded_onto_named_devices(tmp_path: Path) -> None:
    folder = str(make_model(tmp_path))
    with pytest.raises(InputError, match="forward pass fails"):
        load_model(folder, "cpu,meta")  # what reached meta has no values to come back with
