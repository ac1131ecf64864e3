"""Runs of made-up features, built without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isqrt
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from proponent.build import tasks
from proponent.build.local import run_here
from proponent.build.marks import Marks
from proponent.build.plan import StagedShard, stage
from proponent.build.stages import run_stages
from proponent.build.tasks import START, Build
from proponent.files import write_json
from proponent.index.manifest import FORMAT
from proponent.index.run import Passage, RunFolder
from proponent.index.storage import write_tensors
from proponent.progress import Silent

BLOCKS, SIDE, DAMPING = 2, 2, 0.5
SHARDS = (5, 1, 4)
TOKENS = 7  # of a row
MANIFEST = {  # of a run of no model, but for its spec and its blocks' width
    "format": FORMAT,
    "corpus": {"passages": 0, "empty": 0, "fingerprint": ""},
    "model": "",
    "tokenizer": "",
    "codec": "",
    "blocks": {f"block {b}": [] for b in range(BLOCKS)},
    "uncovered": {},
    "made_with": {"versions": {}, "threads": 1},
}

MakeRun = Callable[[Path], RunFolder]


def made_up_features(rows: int = sum(SHARDS), seed: int = 0) -> Tensor:
    """Features [n, b * p * p] whose coordinates differ a hundredfold in size."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, BLOCKS * SIDE**2, generator=generator) * torch.logspace(-1, 1, BLOCKS * SIDE**2)


@dataclass(frozen=True)
class MadeUp:
    """Stands in for an extractor: the row whose first token is n has feature n."""

    features: Tensor


def extract(
    extractors: Sequence[MadeUp],
    rows: Sequence[Sequence[int]],
    starts: Sequence[int],
    output: str,
    done: Callable[[Sequence[int]], None],
) -> list[Tensor]:
    """Made-up features in place of those of a model."""
    done(range(len(rows)))
    return [extractor.features[[row[0] for row in rows]] for extractor in extractors]


def open_build(folder: RunFolder, features: Tensor, damping: float | str = DAMPING) -> Build:
    """A build as another process opens it: it knows nothing but the folder."""
    return Build(folder, Marks(folder), BLOCKS, damping, extractor=MadeUp(features))  # type: ignore[arg-type]


def start_build(
    path: Path, features: Tensor, shards: Sequence[int] = SHARDS, damping: float | str = DAMPING
) -> Build:
    """A build of these features before its first task; row n has the id ``pN`` and the text ``text N``."""
    build = open_build(RunFolder(path), features, damping)
    manifest = {**MANIFEST, "side": isqrt(features.shape[1] // BLOCKS)}
    spec = {"model": "none", "damping": damping, "hessian": "train", "size": 0, "seed": 0}
    write_json(build.folder.manifest, {**manifest, "spec": spec})
    checksums: dict[Path, str] = {}
    for file in (build.folder.moments, build.folder.sides):
        write_tensors(file, {"matrix/rows": torch.ones(3)}, partial(checksums.setdefault, file))
    build.marks.write(START, checksums)
    stage([build.marks], map(staged, torch.arange(len(features)).split(list(shards))))
    return build


def staged(rows: Tensor) -> StagedShard:
    """The plan's part for some row numbers, with one empty passage among them."""
    numbers: list[int] = rows.tolist()
    return StagedShard(
        [Passage(f"p{n}", f"source of p{n}", f"text {n}") for n in numbers],
        [(n, *range(1, TOKENS)) for n in numbers],
        [1] * len(numbers),
        tokens=TOKENS * len(numbers),
        empty=1,
    )


def write_features(build: Build) -> None:
    """The first task of a build, for all its shards."""
    with patch.object(tasks, "extract", extract):
        for shard in range(build.shards):
            tasks.features([build], shard, "loss", lambda units, tokens=0: None)


def finish_build(build: Build) -> RunFolder:
    """All of a build's tasks that are not done."""
    with patch.object(tasks, "extract", extract):
        run_stages([build], partial(run_here, [build], "loss"), Silent())
    return build.folder


def write_run(
    path: Path, features: Tensor, shards: Sequence[int] = SHARDS, damping: float | str = DAMPING
) -> RunFolder:
    """A finished run of these features."""
    return finish_build(start_build(path, features, shards, damping))


@pytest.fixture
def features() -> Tensor:
    return made_up_features()


@pytest.fixture
def run(tmp_path: Path, features: Tensor) -> RunFolder:
    return write_run(tmp_path / "run", features)
