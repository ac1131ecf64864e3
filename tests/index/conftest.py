"""Runs of made-up features, and the scores of passages from first principles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isqrt
from pathlib import Path

import pytest
import torch
from torch import Tensor

from proponent.build.finish import finish_run
from proponent.build.writing import start_run, write_raw_shard
from proponent.index.run import Passage, RunFolder
from proponent.progress import Silent

BLOCKS, SIDE, DAMPING = 2, 2, 0.5
SHARDS = (5, 1, 4)

MakeRun = Callable[[Path], RunFolder]


def made_up_features(rows: int = sum(SHARDS), seed: int = 0) -> Tensor:
    """Features [n, b * p * p] whose coordinates differ a hundredfold in size."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, BLOCKS * SIDE**2, generator=generator) * torch.logspace(-1, 1, BLOCKS * SIDE**2)


def write_raw(path: Path, features: Tensor, shards: Sequence[int] = SHARDS) -> RunFolder:
    """A run of these features before its last stages; passage n has the id ``pN`` and the text ``text N``."""
    folder = RunFolder(path)
    manifest = {
        "spec": {"damping": DAMPING},
        "side": isqrt(features.shape[1] // BLOCKS),
        "blocks": {f"block {b}": [] for b in range(BLOCKS)},
    }
    start_run(folder, manifest, {"matrix/rows": torch.ones(3)})
    names = iter(range(len(features)))
    for shard, part in enumerate(features.split(list(shards))):
        passages = [Passage(f"p{n}", f"source of p{n}", f"text {n}") for n in [next(names) for _ in part]]
        counts = {"tokens": 7 * len(part), "empty": 1, "too_short": 0, "resume_at": None}
        write_raw_shard(folder, shard, passages, part, counts)
    return folder


def write_run(path: Path, features: Tensor, shards: Sequence[int] = SHARDS) -> RunFolder:
    """A finished run of these features."""
    folder = write_raw(path, features, shards)
    finish_run(folder, BLOCKS, DAMPING, Silent())
    return folder


@pytest.fixture
def features() -> Tensor:
    return made_up_features()


@pytest.fixture
def run(tmp_path: Path, features: Tensor) -> RunFolder:
    return write_run(tmp_path / "run", features)
