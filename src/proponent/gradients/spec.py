"""The one frozen value that fixes what an influence feature is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from proponent.errors import InputError

OUTPUTS = ("loss", "margin", "logit")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class FeatureSpec:
    """How text becomes influence features; derive another with ``dataclasses.replace``.

    model: Hugging Face model folder or hub id; a folder is kept as an absolute path.
    dim: feature dimension d.  Each of the B blocks gets side p = floor(sqrt(d / B)), so the features
        have B * p * p <= d coordinates; ``LayerPlan`` tells the exact number.
    layer_groups: consecutive groups that the layers are cut into, each giving an attention block and
        an MLP block (fewer groups for a model with fewer layers).
    second_moment: ``sample`` (estimated on ``moment_sample`` passages), ``none`` (ones), or the path
        of an optimizer checkpoint (a Hugging Face Trainer's ``optimizer.pt``).
    output: function of the passages' tokens whose gradient is taken: ``loss``, ``margin`` or ``logit``.
    max_length: longest chunk in tokens; 0 for 512, or what the model reads where that is less.
    batch_tokens: tokens that are computed at once, padding included.
    damping: what is added to R_train's diagonal, relative to each block's mean eigenvalue: a number > 0,
        or ``oas`` or ``ledoit-wolf``, which read it off R_train, a block at a time.
    dtype: ``float32`` or ``bfloat16``, of the linear modules' products, except in the forward pass of the
        first layers, and of the projections; all else is float32.

    Raises InputError for a value outside its range.
    """

    model: str
    dim: int = 2**16
    layer_groups: int = 8
    second_moment: str = "sample"
    moment_sample: int = 256
    output: str = "loss"
    max_length: int = 0
    batch_tokens: int = 2048
    damping: float | str = "oas"
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", _absolute_if_folder(self.model))
        if self.second_moment not in ("sample", "none"):
            object.__setattr__(self, "second_moment", os.path.abspath(self.second_moment))
            if not Path(self.second_moment).is_file():
                raise InputError(
                    f"second moment '{self.second_moment}' is neither 'sample', 'none' nor a file; "
                    "give an optimizer checkpoint such as checkpoint-1000/optimizer.pt"
                )
        for name in ("dim", "layer_groups", "moment_sample", "batch_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.max_length < 2 and self.max_length != 0:
            raise InputError(f"max_length is {self.max_length}; a chunk needs 2 tokens to predict one")
        _check_choice("output", self.output, OUTPUTS)
        _check_choice("dtype", self.dtype, DTYPES)

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values, one key a field."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeatureSpec:
        """The inverse of ``to_dict``; InputError names keys that do not belong.

        A run keeps the second moments that it read, so their checkpoint need not exist any more.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(
                f"the run's spec has unknown settings {unknown}; was it made by a newer version?"
            )
        try:
            spec = cls(**{**values, "second_moment": "none"})
        except TypeError as error:
            raise InputError(f"the run's spec cannot be used: {error}") from error
        object.__setattr__(spec, "second_moment", values.get("second_moment", cls.second_moment))
        return spec

    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the spec's canonical JSON."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _absolute_if_folder(model: str) -> str:
    """A folder's absolute path, so that a run can be traced from another directory; else unchanged."""
    return os.path.abspath(model) if os.path.isdir(model) else model


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is '{value}'; choose one of {', '.join(choices)}")
