"""The slow, obvious way: every weight gradient formed, full V, explicit projections.

It exists to be compared with; the fast path never calls it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from proponent.gradients.layers import LayerPlan, Matrix
from proponent.gradients.model import LanguageModel
from proponent.gradients.outputs import OUTPUT_FUNCTIONS
from proponent.gradients.projection import gaussian_projection


def weight_gradients(
    model: LanguageModel, matrices: Sequence[Matrix], row: Sequence[int], start: int, output: str = "loss"
) -> dict[str, Tensor]:
    """Gradient [o, i] of every matrix for one row of tokens, by plain autograd; modules joined along o."""
    weights = {path: model.causal.get_submodule(path).weight for m in matrices for path in m.modules}
    tokens = torch.tensor([list(row)], device=model.device)
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        logits = model.causal(input_ids=tokens, use_cache=False).logits[0].float()
        scalar = OUTPUT_FUNCTIONS[output].value(logits[start - 1 : -1], tokens[0, start:]).sum()
        gradients = dict(
            zip(
                weights,
                torch.autograd.grad(scalar, list(weights.values()), materialize_grads=True),
                strict=True,
            )
        )
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)
    for path, gradient in gradients.items():  # GPT-2's Conv1D stores [i, o]
        inputs_first = isinstance(model.causal.get_submodule(path), Conv1D)
        gradients[path] = (gradient.T if inputs_first else gradient).float()
    return {m.name: torch.cat([gradients[path] for path in m.modules]) for m in matrices}


def full_second_moments(
    model: LanguageModel, matrices: Sequence[Matrix], rows: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    """Mean of G∘G [o, i] over rows, one gradient a row, in float64."""
    sums = {m.name: torch.zeros(sum(m.outputs), m.inputs, dtype=torch.float64) for m in matrices}
    for row in rows:
        for name, gradient in weight_gradients(model, matrices, row, 1).items():
            sums[name] += gradient.double().square().cpu() / len(rows)
    return sums


def exact_feature(
    gradients: Mapping[str, Tensor], plan: LayerPlan, second_moments: Mapping[str, Tensor], seed: int
) -> Tensor:
    """Feature [d] of one example from its gradients, ``P_out (G / √V) P_inᵀ``, V [o, i] any matrix."""
    feature = torch.zeros(len(plan.blocks), plan.side, plan.side, dtype=torch.float64)
    for b, block in enumerate(plan.blocks):
        for matrix in block.matrices:
            sides = gaussian_projection(matrix, plan.side, seed)
            corrected = gradients[matrix.name].double() / second_moments[matrix.name].double().sqrt()
            feature[b] += sides.out_side.double().T @ corrected @ sides.in_side.double()
    return feature.flatten().float()
