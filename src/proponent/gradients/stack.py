"""A model's stack of layers: the list of modules that its hidden states pass one after another."""

from __future__ import annotations

from torch import nn
from transformers.pytorch_utils import Conv1D

LINEAR = (nn.Linear, Conv1D)


def layer_stack(causal: nn.Module) -> str | None:
    """Path of the stack: the module list with most linear modules in it; None where none has any."""
    lists = [(path, part) for path, part in causal.named_modules() if isinstance(part, nn.ModuleList)]
    counts = {path: sum(isinstance(module, LINEAR) for module in part.modules()) for path, part in lists}
    best = max(counts, key=lambda path: counts[path], default=None)
    return best if best is not None and counts[best] else None
