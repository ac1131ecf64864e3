"""Second moments, R and whitening against the indexing pass itself.

    python benchmarks/corrections.py MODEL CORPUS --passages 10000 --measured 600

The pass and the second moments are timed in a real build of ``--measured`` passages; the pass grows with
them and is scaled to ``--passages``.  R, its factors and whitening do not depend on the model: they are timed
on as many rows of random features as there would be, in the same blocks and in full shards (passages of more
than 128 tokens fill smaller ones), and are not scaled.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from inputs import arguments, model_folder, passages
from side_by_side import machine
from stages import FACTORS, GRADIENTS, MOMENTS, SUMS, WHITENING, StageClock

from proponent.build.indexing import build_index
from proponent.build.local import run_here
from proponent.build.marks import Marks
from proponent.build.plan import SHARD_ROWS, StagedShard, stage
from proponent.build.stages import run_stages
from proponent.build.tasks import START, Build
from proponent.corpus.corpus import Corpus
from proponent.files import write_json
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index, Passage, RunFolder

TARGET = 0.10


def main() -> None:
    """Time both parts, and print the stages' seconds."""
    given = parsed()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        index, clock = built(given, work)
        found = {
            GRADIENTS: clock.seconds[GRADIENTS] * given.passages / len(index),
            MOMENTS: clock.seconds[MOMENTS],
        }
        rest = finished(RunFolder(work / "random"), index.blocks, index.dim, given.passages)
        found |= {stage: rest.seconds[stage] for stage in (SUMS, FACTORS, WHITENING)}
        print(f"{given.model}, d = {index.dim:,}, {given.dtype}, {given.passages:,} passages")
        print(f"(pass of {len(index):,} passages, {index.summary['tokens']:,} tokens, scaled)")
    print("| stage | seconds | of the pass |\n| --- | ---: | ---: |")
    for name, seconds in found.items():
        print(f"| {name} | {seconds:.1f} | {seconds / found[GRADIENTS]:.1%} |")
    corrections = sum(found.values()) - found[GRADIENTS]
    print(f"| all corrections | {corrections:.1f} | {corrections / found[GRADIENTS]:.1%} |")
    print(f"The target is {TARGET:.0%} at most.  {machine()}")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = arguments(__doc__)
    parser.add_argument("--passages", type=int, default=10000)
    parser.add_argument("--measured", type=int, default=600, help="passages really indexed")
    parser.add_argument("--dim", type=int, default=2**16)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens a batch")
    parser.add_argument("--dtype", default="float32")
    return parser.parse_args()


def built(given: argparse.Namespace, work: Path) -> tuple[Index, StageClock]:
    """A whole index of the passages that are measured."""
    clock = StageClock()
    folder = model_folder(given.model, given.corpus, work)
    text = passages(given.corpus, given.measured, work / "passages.jsonl")
    spec = FeatureSpec(folder, dim=given.dim, batch_tokens=given.tokens, dtype=given.dtype)
    return build_index(Corpus.read(str(text)), spec, work / "run", "cpu", clock), clock


def finished(folder: RunFolder, blocks: int, dim: int, rows: int) -> StageClock:
    """The stages after the pass, of a run of random features [rows, dim] without a model."""
    clock, marks = StageClock(), Marks(folder)
    write_json(folder.manifest, {})
    marks.write(START, {})
    stage([marks], (shard_of(range(n, min(rows, n + SHARD_ROWS))) for n in range(0, rows, SHARD_ROWS)))
    builds = [Build(folder, marks, blocks, "oas")]
    with patch("proponent.build.tasks.extract", lambda _, tokens, *__: [torch.randn(len(tokens), dim)]):
        run_stages(builds, partial(run_here, builds, "loss"), clock)
    return clock


def shard_of(numbers: range) -> StagedShard:
    """A shard of passages without text."""
    passages = [Passage(str(n), str(n), "") for n in numbers]
    return StagedShard(passages, [(0, 0)] * len(numbers), [1] * len(numbers))


if __name__ == "__main__":
    main()
