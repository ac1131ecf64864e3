"""Tail-patch: how much one training step on a passage raises the probability of a query's target.

One Adafactor step on the passage alone changes the weight W [o, i] of a linear module by

    ΔW = −η · s(W) · U / max(1, RMS(U) / c),   U = D_r G D_c = Σ_t (D_r d_t)(D_c x_t)ᵀ

(Shazeer & Stern, 2018, algorithm 4), which has the rank of the passage's tokens.  So the stepped model is
never built: ``x ΔWᵀ`` is added to the module's output, for many passages and queries in one forward.
The tests compare it with a loop that really steps and restores the weights.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proponent.attribute.probability import batch_probabilities, target_probabilities
from proponent.corpus.batches import batches
from proponent.corpus.example import EncodedQuery
from proponent.errors import InputError
from proponent.files import parse_json
from proponent.gradients.lanes import plain_batches
from proponent.gradients.layers import Matrix
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import SecondMoments
from proponent.gradients.sweep import Sweep

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class PatchStep:
    """The optimizer step of a tail-patch: Adafactor's, on the attention and MLP matrices.

    learning_rate: η.  relative: whether η is relative to each matrix's size (s(W) = RMS(W), at least
    ``floor``), as Adafactor scales parameters, or absolute (s = 1).  clip: largest RMS of U, c.
    The gradient is of the passage's loss in V's unit, summed or a mean over its tokens; V is the run's and
    the step does not change it.
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
        is not positive, and where ``pretrain.json`` is asked and does not tell it.
        """
        record = Path(folder) / "pretrain.json"
        relative = not record.is_file()
        if learning_rate is None:
            learning_rate = cls.learning_rate if relative else _pretrained_rate(record)
        elif not learning_rate > 0:
            raise InputError(f"the learning rate is {learning_rate}; it must be more than 0")
        return cls(learning_rate=learning_rate, relative=relative)

    def size(self, weight: Tensor) -> float:
        """η · s(W) of a weight."""
        return self.learning_rate * (max(self.floor, rms(weight)) if self.relative else 1.0)


def _pretrained_rate(record: Path) -> float:
    """Pretraining's learning rate over its batch size, by its record."""
    try:
        settings = parse_json(record.read_text(encoding="utf-8"))["settings"]
        rate = float(settings["learning_rate"]) / int(settings["batch"])
        if not 0 < rate < math.inf:
            raise ValueError(f"a learning rate of {rate}")
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        found = f"{record}: does not say with which learning rate and batch the model was pretrained"
        raise InputError(f"{found}; put the file back, or give a learning rate") from error
    return rate


def rms(values: Tensor) -> float:
    """Root mean square over all entries."""
    return float(values.float().square().mean().sqrt())


class _Factors:
    """A capture of the scaled factors D_c x [n, t, i] and D_r d [n, t, o] of U = dᵀ x."""

    def __init__(self, moments: Mapping[str, SecondMoments]) -> None:
        self._moments = moments
        self.inputs: dict[str, Tensor] = {}  # by matrix
        self.outputs: dict[str, Tensor] = {}  # by module

    def forward(self, matrix: Matrix, x: Tensor) -> None:
        """Keep the scaled input."""
        self.inputs[matrix.name] = x.float() * self._moments[matrix.name].column_scale.to(x.device)

    def backward(self, matrix: Matrix, slot: int, d: Tensor) -> None:
        """Keep the scaled gradient."""
        rows = self._moments[matrix.name].row_scale.split(matrix.outputs)[slot]
        self.outputs[matrix.modules[slot]] = d.float() * rows.to(d.device)


class _Updates:
    """A sink that turns the factors of each passage's gradient into its update ``ΔW = Bᵀ A`` of every matrix.

    inner: A [t, i] of each passage, by matrix.  outer: B [t, o] of each passage, by module.
    """

    def __init__(self, patcher: TailPatcher, passages: Sequence[Tokens]) -> None:
        self._patcher, self.passages = patcher, passages
        none = [torch.empty(0)] * len(passages)
        self.inner = {matrix.name: list(none) for matrix in patcher.matrices}
        self.outer = {path: list(none) for matrix in patcher.matrices for path in matrix.modules}

    def open(self, _: int) -> _Factors:
        """A capture for a batch."""
        return _Factors(self._patcher.moments)

    def take(self, members: Sequence[int], captured: _Factors) -> None:
        """Take the updates by the passages of a batch."""
        positions = [len(self.passages[n]) - 1 for n in members]  # those that predict
        for matrix in self._patcher.matrices:
            x, moments = captured.inputs.pop(matrix.name), self._patcher.moments[matrix.name]
            gram = x @ x.transpose(1, 2)  # [n, t, t]
            scored = [len(self.passages[n]) - self._patcher.model.encoder.start for n in members]
            share = 1 / torch.tensor(scored if moments.of_mean else [1] * len(members), device=x.device)
            for path in matrix.modules:
                d = captured.outputs.pop(path).mul_(share[:, None, None])
                squared = (gram * (d @ d.transpose(1, 2))).sum((1, 2)).clamp_min(0)
                size = (squared / (x.shape[2] * d.shape[2])).sqrt()  # RMS(U) [n]
                clipped = (size / self._patcher.step.clip).clamp_min(1)
                d.mul_((-self._patcher.sizes[path] / clipped)[:, None, None])
                _place(self.outer[path], members, d, positions)
            _place(self.inner[matrix.name], members, x, positions)


def _place(into: list[Tensor], members: Sequence[int], values: Tensor, lengths: Sequence[int]) -> None:
    """Put the rows of [n, t, ...] where they belong, without their padding, where gradients are zero."""
    for n, row, length in zip(members, values, lengths, strict=True):
        into[n] = row[:length]


@dataclass(frozen=True)
class TailPatcher:
    """Measures steps on passages against queries.

    model: frozen.  matrices: what a step changes.  moments: V of each.  batch_tokens: of a forward pass.
    """

    model: LanguageModel
    matrices: tuple[Matrix, ...]
    moments: Mapping[str, SecondMoments]
    step: PatchStep
    batch_tokens: int

    @cached_property
    def sizes(self) -> dict[str, float]:
        """η · s(W) of the weight of every module."""
        paths = [path for matrix in self.matrices for path in matrix.modules]
        return {path: self.step.size(self.model.causal.get_submodule(path).weight) for path in paths}

    def probabilities(self, queries: Sequence[EncodedQuery]) -> list[float]:
        """Probability of each query's target tokens, all of them, given the prompt: no step taken."""
        return target_probabilities(self.model, queries, self.batch_tokens)

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
        stepped, sweep = sorted(asked), Sweep(self.model, self.matrices, self.batch_tokens)
        for members in batches([len(passages[n]) for n in stepped], self.batch_tokens):
            group = [stepped[n] for n in members]
            if not any(number in chosen for n in group for number in asked[n]):
                continue
            updates = _Updates(self, [passages[n] for n in group])
            sweep(updates.passages, [self.model.encoder.start] * len(group), [updates])
            numbers = [(number, row) for row, n in enumerate(group) for number in asked[n]]
            lengths = [len(pairs[number][0].tokens) for number, _ in numbers]
            for part in plain_batches(self.model, lengths, self.batch_tokens):
                rows = sorted((numbers[n] for n in part), key=lambda found: found[1])
                with self._stepped(updates, [row for _, row in rows]):
                    values = batch_probabilities(self.model, [pairs[number][0] for number, _ in rows])
                for (number, _), value in zip(rows, values, strict=True):
                    if number in chosen:
                        yield number, value

    @contextmanager
    def _stepped(self, updates: _Updates, rows: Sequence[int]) -> Iterator[None]:
        """While open, row n of a forward sees the model stepped on passage ``rows[n]``; rows ascend."""
        spans = [(row, len(list(same))) for row, same in groupby(rows)]
        with ExitStack() as hooks:
            for matrix in self.matrices:
                change = _Change(updates.inner[matrix.name], spans)
                for path in matrix.modules:
                    hook = partial(change.add, [updates.outer[path][n] for n, _ in spans])
                    hooks.callback(self.model.causal.get_submodule(path).register_forward_hook(hook).remove)
            yield


class _Change:
    """``x ΔWᵀ = (x Aᵀ) B`` of each row's own passage, for the modules of one matrix.

    inner: A of every passage.  spans: (passage, how many rows), in the rows' order.  The factors are long,
    the rows of a passage few: a plain product for each passage moves far less memory than one batched
    product over gathered factors.
    """

    def __init__(self, inner: Sequence[Tensor], spans: Sequence[tuple[int, int]]) -> None:
        self._inner = [inner[n].T for n, _ in spans]
        self._counts = [count for _, count in spans]
        self._read: Tensor | None = None
        self._products: list[Tensor] = []  # x Aᵀ, worked out once for all modules that read the same x

    def add(self, outer: Sequence[Tensor], _: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """A module's output and its change, as a forward hook.  outer: B [t, o] of every span."""
        x = args[0]  # [n, t, i], or flattened
        if self._read is not x:
            parts = x.float().reshape(sum(self._counts), -1, x.shape[-1]).split(self._counts)
            self._products = [part @ a for part, a in zip(parts, self._inner, strict=True)]
            self._read = x
        changes = [product @ b for product, b in zip(self._products, outer, strict=True)]
        return output + torch.cat(changes).reshape(output.shape).to(output.dtype)
