"""A build in a process of its own, to be killed: python -m tests.build.driver MODEL RUN WAY..."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from proponent.build import plan
from proponent.build.array import build_part, finish_index
from proponent.build.indexing import build_index
from proponent.build.local import Here
from proponent.build.processes import Processes
from proponent.build.ray import OnRay
from proponent.corpus import Corpus, Example
from proponent.gradients.spec import FeatureSpec

# 60 passages of a few lengths, in shards of four.
TEXTS = [f"{n} {'is more than ' * (n % 4)}{n - 1}." for n in range(60)]
CORPUS = Corpus.of([Example(f"p{n}", text, f"memory:{n}") for n, text in enumerate(TEXTS)])
SHARD_ROWS = 4


def spec(model: Path) -> FeatureSpec:
    """Small features of the model."""
    return FeatureSpec(str(model), dim=70, layer_groups=2, max_length=48, batch_tokens=150, moment_sample=8)


def build(model: Path, run: Path, *way: str) -> None:
    """Build the run: ``here``, ``processes N``, ``ray ADDRESS``, ``task I N`` or ``finish``."""
    torch.set_num_threads(1)
    plan.SHARD_ROWS = SHARD_ROWS
    if way[0] == "task":
        build_part(CORPUS, spec(model), run, (int(way[1]), int(way[2])), "cpu")
    elif way[0] == "finish":
        finish_index(spec(model), run)
    else:
        executors = {"here": Here, "processes": lambda n: Processes(int(n), "cpu"), "ray": OnRay}
        build_index(CORPUS, spec(model), run, "cpu", executor=executors[way[0]](*way[1:]))  # type: ignore[operator]


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
