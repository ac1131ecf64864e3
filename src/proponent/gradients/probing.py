"""Two short forward passes at load, which show whether a model computes what the method assumes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from proponent.errors import InputError, first_line
from proponent.gradients.loading import quiet

if TYPE_CHECKING:
    from proponent.gradients.model import LanguageModel

TOKENS = 6  # with 5 before the last: a prime, so that no block of attention of another size begins there
TOLERANCE = 1e-4  # of the largest logit; rounding stays below a hundredth of it


class _PositionTables(TorchFunctionMode):
    """Watches lookups in embeddings; ``limit`` is the smallest number of positions that a table serves.

    The table's size alone does not tell it: some models (OPT, RoBERTa) start at a later row than the first.
    """

    limit: int | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.embedding and args[0].shape[-1] == TOKENS:
            rows = args[0].reshape(-1, TOKENS)
            first = int(rows[0, 0])
            if torch.equal(rows, (first + torch.arange(TOKENS, device=rows.device)).expand_as(rows)):
                self.limit = min(len(args[1]) - first, self.limit or len(args[1]))
        return func(*args, **(kwargs or {}))


def probe(name: str, model: LanguageModel, known: int) -> int | None:
    """Check a model on two short rows; returns how many positions its learned tables serve, None without one.

    known: number of token ids that it can read and predict.
    Raises InputError where a forward pass fails, no logit is finite, an earlier logit depends on a later
    token, or the head makes other logits of the last hidden states than the model does.
    """
    with torch.no_grad():
        with _refusing(f"model '{name}': its forward pass fails"), (watched := _PositionTables()):
            # ids of the middle of the vocabulary, where those with a meaning of their own are rare
            rows = ((known // 2 + 3 * torch.arange(TOKENS)) % known).repeat(2, 1)
            rows[1, -1] = known // 3
            rows = rows.to(model.device)
            whole: Tensor = model.causal(input_ids=rows, use_cache=False).logits.float()
        with _refusing(f"model '{name}': its logits cannot be made of the last hidden state alone"):
            remade = model.logits(model.hidden(rows[:1])[0])
    if not whole.isfinite().any():
        raise InputError(f"model '{name}' gives no finite logit for {TOKENS} tokens; its weights are damaged")
    if _differ(whole[1, :-1], whole[0, :-1]):
        seen = "the last token changes the logits of those before it"
        raise InputError(f"model '{name}' is not causal: {seen}; give a causal language model")
    if _differ(remade, whole[0]):
        raise InputError(
            f"model '{name}': its logits are not those that its head makes of the last hidden state of the "
            "same row alone; such models are not supported"
        )
    return watched.limit


def _differ(found: Tensor, expected: Tensor) -> bool:
    found, expected = found.nan_to_num(0, 0, 0), expected.nan_to_num(0, 0, 0)
    return bool((found - expected).abs().max() > TOLERANCE * expected.abs().max())


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    try:
        with quiet():
            yield
    except Exception as error:  # whatever the architecture's own code raises
        raise InputError(f"{what} ({first_line(error)})") from error
