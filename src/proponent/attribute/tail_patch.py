"""Tail-patch: how much one training step on a passage raises the probability of a query's target.

One Adafactor step on the passage alone changes the weight W [o, i] of a linear module by

    ΔW = −η · s(W) · U / max(1, RMS(U) / c),   U = D_r G D_c = Σ_t (D_r d_t)(D_c x_t)ᵀ

(Shazeer & Stern, 2018, algorithm 4), which has the rank of the passage's tokens.  So the stepped model is
never built: ``x ΔWᵀ`` is added to the module's output, for many passages and queries in one forward.
``tail_patch_reference.py`` really steps and restores the weights, for comparison.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proponent.attribute.probability import batch_probabilities, target_probabilities
from proponent.corpus.batches import batches
from proponent.corpus.example import EncodedQuery
from proponent.errors import InputError
from proponent.gradients.backprop import Batch, backpropagate
from proponent.gradients.capture import capture
from proponent.gradients.layers import Matrix
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import SecondMoments
from proponent.gradients.outputs import loss

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class PatchStep:
    """The optimizer step of a tail-patch: Adafactor's, on the attention and MLP matrices.

    learning_rate: η.  relative: whether η is relative to each matrix's size (s(W) = RMS(W), at least
    ``floor``), as Adafactor scales parameters, or absolute (s = 1).  clip: largest RMS of U, c.
    The gradient is of the passage's summed loss; V is the run's and the step does not change it.
    """

    learning_rate: float = 1e-3
    relative: bool = True
    clip: float = 1.0
    floor: float = 1e-3

    @classmethod
    def for_model(cls, folder: str, learning_rate: float | None = None) -> PatchStep:
        """One passage's share in a step of the model's own pretraining, else the default step.

        Where ``pretrain.json`` tells it, η is pretraining's learning rate over its batch size: a whole
        step on one passage alone overshoots.  learning_rate: overrides η.  Raises InputError where it
        is not positive.
        """
        step, record = cls(), Path(folder) / "pretrain.json"
        if record.is_file():
            settings = json.loads(record.read_text(encoding="utf-8"))["settings"]
            step = cls(learning_rate=settings["learning_rate"] / settings["batch"], relative=False)
        if learning_rate is not None:
            if not learning_rate > 0:
                raise InputError(f"the learning rate is {learning_rate}; it must be more than 0")
            step = replace(step, learning_rate=learning_rate)
        return step

    def size(self, weight: Tensor) -> float:
        """η · s(W) of a weight."""
        return self.learning_rate * (max(self.floor, rms(weight)) if self.relative else 1.0)


def rms(values: Tensor) -> float:
    """Root mean square over all entries."""
    return float(values.float().square().mean().sqrt())


class _Factors:
    """A capture sink that keeps the scaled factors D_c x [n, t, i] and D_r d [n, t, o] of U = dᵀ x."""

    def __init__(self, moments: Mapping[str, SecondMoments], device: torch.device) -> None:
        self._columns = {name: m.column_scale.to(device) for name, m in moments.items()}
        self._rows = {name: m.row_scale.to(device) for name, m in moments.items()}
        self._inputs: dict[str, Tensor] = {}
        self.modules: dict[str, tuple[Tensor, Tensor]] = {}

    def forward(self, matrix: Matrix, x: Tensor) -> None:
        self._inputs[matrix.name] = x.float() * self._columns[matrix.name]

    def backward(self, matrix: Matrix, slot: int, d: Tensor) -> None:
        rows = self._rows[matrix.name].split(matrix.outputs)[slot]
        self.modules[matrix.modules[slot]] = (self._inputs[matrix.name], d.float() * rows)


class TailPatcher:
    """Measures steps on passages against queries.

    model: frozen.  matrices: what a step changes.  moments: V of each.  batch_tokens: of a forward.
    """

    def __init__(
        self,
        model: LanguageModel,
        matrices: Sequence[Matrix],
        moments: Mapping[str, SecondMoments],
        step: PatchStep,
        batch_tokens: int,
    ) -> None:
        self.model, self.matrices, self.moments, self.step = model, matrices, moments, step
        self._batch_tokens = batch_tokens
        self._sizes = {
            path: step.size(model.causal.get_submodule(path).weight) for m in matrices for path in m.modules
        }

    def probabilities(self, queries: Sequence[EncodedQuery]) -> list[float]:
        """Probability of each query's target tokens, all of them, given the prompt: no step taken."""
        return target_probabilities(self.model, queries, self._batch_tokens)

    def patched(
        self,
        passages: Sequence[Tokens],
        pairs: Sequence[tuple[EncodedQuery, int]],
        wanted: Collection[int] | None = None,
    ) -> Iterator[tuple[int, float]]:
        """Probability of the target after a step on a passage, for (query, passage number) pairs.

        wanted: numbers of the pairs to measure, all unless given.  The others shape the batches all the
        same, so that the last digits of a pair do not depend on which others are wanted.
        Yields (number of the pair, probability), grouped by passages: each passage's gradient is taken
        once, however many queries ask for it.
        """
        chosen = set(range(len(pairs)) if wanted is None else wanted)
        asked: dict[int, list[int]] = {}
        for number, (_, passage) in enumerate(pairs):
            asked.setdefault(passage, []).append(number)
        stepped = sorted(asked)
        for members in batches([len(passages[n]) for n in stepped], self._batch_tokens):
            group = [stepped[n] for n in members]
            if not any(number in chosen for n in group for number in asked[n]):
                continue
            updates = self._updates([passages[n] for n in group])
            numbers = [(number, row) for row, n in enumerate(group) for number in asked[n]]
            for part in batches([len(pairs[number][0].tokens) for number, _ in numbers], self._batch_tokens):
                rows = sorted((numbers[n] for n in part), key=lambda found: found[1])
                with self._stepped(updates, [row for _, row in rows]):
                    values = batch_probabilities(self.model, [pairs[number][0] for number, _ in rows])
                for (number, _), value in zip(rows, values, strict=True):
                    if number in chosen:
                        yield number, value

    def _updates(self, passages: Sequence[Tokens]) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """For each module the factors (A [t, i], B [t, o]) of every passage's ΔW = Bᵀ A."""
        factors = _Factors(self.moments, self.model.device)
        with capture(self.model, self.matrices, [factors]):
            backpropagate(self.model, Batch.of(passages, [1] * len(passages)), loss)
        updates = {}
        for path, (x, d) in factors.modules.items():
            squared = ((x @ x.transpose(1, 2)) * (d @ d.transpose(1, 2))).sum((1, 2)).clamp_min(0)
            size = (squared / (x.shape[2] * d.shape[2])).sqrt()  # RMS(U) [n]
            d.mul_((-self._sizes[path] / (size / self.step.clip).clamp_min(1))[:, None, None])
            # without the padding, whose d is zero
            updates[path] = [(x[n, : len(tokens)], d[n, : len(tokens)]) for n, tokens in enumerate(passages)]
        return updates

    @contextmanager
    def _stepped(
        self, updates: Mapping[str, list[tuple[Tensor, Tensor]]], rows: Sequence[int]
    ) -> Iterator[None]:
        """While open, row n of a forward sees the model stepped on passage ``rows[n]``; rows ascend."""
        spans = [(row, len(list(same))) for row, same in groupby(rows)]
        handles = [
            self.model.causal.get_submodule(path).register_forward_hook(_adds(factors, spans))
            for path, factors in updates.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _adds(
    factors: Sequence[tuple[Tensor, Tensor]], spans: Sequence[tuple[int, int]]
) -> Callable[[Any, tuple[Tensor, ...], Tensor], Tensor]:
    """A forward hook that adds ``x ΔWᵀ = (x Aᵀ) B`` of each row's own passage.

    spans: (passage, how many rows), in the rows' order.  Their factors are long, the rows of a passage few:
    a plain product for each passage moves far less memory than one batched product over gathered factors.
    """

    def hook(_: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        parts = args[0].float().split([count for _, count in spans])
        changes = [part @ a.T @ b for part, (a, b) in zip(parts, (factors[n] for n, _ in spans), strict=True)]
        return output + torch.cat(changes).to(output.dtype)

    return hook
