"""Second moments out of an optimizer checkpoint: Adam's and Adafactor's statistics."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from proponent.errors import InputError
from proponent.gradients.layers import Matrix
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import SecondMoments

# The Hugging Face Trainer has a group of parameters without weight decay: biases and normalisation.
NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)", re.IGNORECASE)


def checkpoint_moments(
    model: LanguageModel, matrices: Sequence[Matrix], path: str | Path
) -> dict[str, SecondMoments]:
    """Second moments by matrix name from a Hugging Face Trainer's ``optimizer.pt``.

    Adam's and AdamW's full V is reduced to its best rank-one form; Adafactor's means become sums.
    A checkpoint cannot run code.  Raises InputError when the file is no optimizer state, belongs to another
    model, or holds no second moments.
    """
    names = _parameter_names(model.causal, state := _read_state(path), path)
    states = {name: state["state"].get(index, {}) for index, name in names.items()}
    return {m.name: _matrix_moments(model.causal, m, states, path) for m in matrices}


def _read_state(path: str | Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: the optimizer checkpoint cannot be read: {error.strerror}") from error
    except Exception as error:  # torch.load raises exceptions of any type on bytes that are no pickle
        raise InputError(
            f"{path}: not an optimizer checkpoint, or one that holds more than tensors and numbers and would "
            "run code; give the optimizer.pt that a Hugging Face Trainer saved"
        ) from error
    if not isinstance(state, dict) or not {"state", "param_groups"} <= set(state):
        raise InputError(f"{path}: not an optimizer checkpoint: 'state' and 'param_groups' are missing")
    return state


def _parameter_names(causal: nn.Module, state: Mapping[str, Any], path: str | Path) -> dict[int, str]:
    """Parameter name of every index of the state, checked by group sizes."""
    names = [name for name, _ in causal.named_parameters()]
    norms = {name for name in names if _without_decay(causal, name)}
    groups = [group["params"] for group in state["param_groups"]]
    sizes = [len(group) for group in groups]
    if sum(sizes) != len(names) or (len(sizes) == 2 and sizes[1] != len(norms)):
        raise InputError(
            f"{path}: holds groups of {sizes} parameters but the model has {len(names)}, {len(norms)} "
            "of them without weight decay; give the optimizer.pt of this model's own training run"
        )
    order = sorted(names, key=norms.__contains__) if len(sizes) == 2 else names  # stable: norms last
    return dict(zip(chain.from_iterable(groups), order, strict=True))


def _without_decay(causal: nn.Module, name: str) -> bool:
    owner = causal.get_submodule(name.rpartition(".")[0])
    return bool(NO_DECAY.search(name)) or isinstance(owner, nn.LayerNorm)


def _matrix_moments(
    causal: nn.Module, matrix: Matrix, states: Mapping[str, Mapping[str, Tensor]], path: str | Path
) -> SecondMoments:
    """Second moments of a matrix: row sums concatenated and column sums added over its modules."""
    parts = []
    for module, outputs in zip(matrix.modules, matrix.outputs, strict=True):
        inputs_first = isinstance(causal.get_submodule(module), Conv1D)
        part = _factors(states[f"{module}.weight"], inputs_first)
        if part is None:
            missing = f"no second moments for {module}.weight"
            raise InputError(f"{path}: {missing}; was it trained by Adam or Adafactor?")
        if part.rows.shape != (outputs,) or part.columns.shape != (matrix.inputs,):
            raise InputError(
                f"{path}: second moments of {module}.weight are {part.rows.numel()} x {part.columns.numel()} "
                f"but the model's weight is {outputs} x {matrix.inputs}; give this model's own optimizer.pt"
            )
        parts.append(part)
    columns = torch.stack([p.columns for p in parts]).sum(0)
    return SecondMoments(torch.cat([p.rows for p in parts]), columns, of_mean=True)


def _factors(state: Mapping[str, Tensor], inputs_first: bool) -> SecondMoments | None:
    """Row and column sums of one weight's V [o, i], or None where the state keeps no second moments."""
    if "exp_avg_sq" in state and state["exp_avg_sq"].dim() == 2:
        full = state["exp_avg_sq"]
        return SecondMoments.of_full(full.T if inputs_first else full)
    if "exp_avg_sq_row" not in state:
        return None
    rows, columns = state["exp_avg_sq_row"].flatten().float(), state["exp_avg_sq_col"].flatten().float()
    rows, columns = rows * columns.numel(), columns * rows.numel()  # means to sums
    return SecondMoments(columns, rows) if inputs_first else SecondMoments(rows, columns)
