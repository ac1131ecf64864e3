"""The one frozen value that fixes what an influence feature is."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from proponent.corpus.records import kind
from proponent.errors import InputError

OUTPUTS = ("loss", "margin", "logit")
DTYPES = ("float32", "bfloat16")
MOMENTS = ("sample", "kronecker", "none")
HESSIANS = ("train", "identity")
# Passages that second moments are estimated on where no number is given: Kronecker factors need more.
SAMPLES, SAMPLE = {"kronecker": 1024}, 256
# What a setting's annotation takes of JSON values.
TYPES = {"str": (str,), "int": (int,), "float | str": (float, int, str), "int | str": (int, str)}
SIZES = (64, 2**17)  # bytes a passage of a compact index, the least and the most


def parse_size(size: int | str) -> int:
    """Bytes a passage of ``4096``, ``4KB`` or ``512B``; 0 for ``full``.  InputError for any other."""
    found = re.fullmatch(r"(\d{1,6})\s*(k?)b?", str(size).strip().lower())
    made = int(found[1]) * (1024 if found[2] else 1) if found else 0 if size == "full" else -1
    if made != 0 and (made not in range(SIZES[0], SIZES[1] + 1) or made & (made - 1)):
        raise InputError(f"size is '{size}'; give 64B, 128B, ... 1KB, 2KB, 4KB, ... 128KB, or full")
    return made


@dataclass(frozen=True)
class FeatureSpec:
    """How text becomes influence features; derive another with ``dataclasses.replace``.

    model: Hugging Face model folder or hub id; a folder is kept as an absolute path.
    dim: feature dimension d.  Each of the B blocks has side p = floor(sqrt(d / B)): B * p * p coordinates.
    layer_groups: at most so many groups of consecutive layers, each with an attention and an MLP block.
    second_moment: ``sample`` (rank one, estimated on ``moment_sample`` passages), ``kronecker`` (two full
        factors a matrix, and two sides a block, estimated on them), ``none`` (ones), or the path of an
        optimizer checkpoint (a Hugging Face Trainer's ``optimizer.pt``).
    moment_sample: passages that second moments are estimated on, those whose ids hash smallest; 0 for 1,024
        with kronecker moments, and for 256 otherwise.
    size: bytes a passage in the index, a power of two from 64 to 131,072 (or text such as ``4KB``): signs of
        a sketch of the feature; 0 or ``full`` for two bytes a coordinate.
    hessian: ``train`` (R_train over the corpus) or ``identity`` (only each block's mean eigenvalue: blocks
        may then be of any width); empty for identity with kronecker moments, and for train otherwise.
    output: function of the passages' tokens whose gradient is taken: ``loss``, ``margin`` or ``logit``.
    max_length: longest chunk in tokens; 0 for 512, or what the model reads where that is less.
    batch_tokens: tokens that are computed at once, padding included.
    damping: what is added to R_train's diagonal, relative to each block's mean eigenvalue: a number > 0,
        or ``oas`` or ``ledoit-wolf``, which read it off R_train, a block at a time.
    dtype: ``float32`` or ``bfloat16``, of projections and of all but the first layers' products.

    Raises InputError for a value outside its range.
    """

    model: str
    dim: int = 2**16
    layer_groups: int = 8
    second_moment: str = "sample"
    moment_sample: int = 0
    output: str = "loss"
    max_length: int = 0
    batch_tokens: int = 2048
    damping: float | str = "oas"
    dtype: str = "float32"
    seed: int = 0
    hessian: str = ""
    size: int | str = 0

    def __post_init__(self) -> None:
        if os.path.isdir(self.model):  # so that the run can be traced from another directory
            object.__setattr__(self, "model", os.path.abspath(self.model))
        if not self.hessian:
            white = self.second_moment == "kronecker"
            object.__setattr__(self, "hessian", "identity" if white else "train")
        if self.second_moment not in MOMENTS:
            object.__setattr__(self, "second_moment", os.path.abspath(self.second_moment))
            if not Path(self.second_moment).is_file():
                known = ", ".join(f"'{name}'" for name in MOMENTS)
                raise InputError(
                    f"second moment '{self.second_moment}' is neither {known} nor a file; "
                    "give an optimizer checkpoint such as checkpoint-1000/optimizer.pt"
                )
        if self.moment_sample == 0:
            object.__setattr__(self, "moment_sample", SAMPLES.get(self.second_moment, SAMPLE))
        for name in ("dim", "layer_groups", "moment_sample", "batch_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        object.__setattr__(self, "size", parse_size(self.size))
        if self.max_length < 2 and self.max_length != 0:
            raise InputError(f"max_length is {self.max_length}; a chunk needs 2 tokens to predict one")
        for name, choices in (("output", OUTPUTS), ("dtype", DTYPES), ("hessian", HESSIANS)):
            if (value := getattr(self, name)) not in choices:
                raise InputError(f"{name} is '{value}'; choose one of {', '.join(choices)}")

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values, one key a field."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeatureSpec:
        """The inverse of ``to_dict``; InputError names keys that do not belong.

        A run keeps the second moments that it read, so their checkpoint need not exist any more.
        """
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            found = f"the run's spec has unknown settings {unknown}"
            raise InputError(f"{found}; was it made by a newer version?")
        taken = {field.name: TYPES[str(field.type)] for field in fields(cls)}
        for name, value in values.items():
            if type(value) not in taken[name]:
                found = f"{name} is {kind(value)}"
                raise InputError(f"the run's spec cannot be used: {found}; build the run again")
        try:
            spec = cls(**{**values, "second_moment": "none"})
        except TypeError as error:
            raise InputError(f"the run's spec cannot be used: {error}") from error
        object.__setattr__(spec, "second_moment", values.get("second_moment", cls.second_moment))
        return spec

    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the spec's canonical JSON."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
