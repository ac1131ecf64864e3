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
from pathlib import Path

import torch
from inputs import arguments, model_folder, passages
from side_by_side import machine
from stages import MOMENTS, StageClock

from proponent.build.finish import finish_run
from proponent.build.indexing import build_index
from proponent.build.sharding import SHARD_ROWS
from proponent.build.writing import start_run, write_raw_shard
from proponent.corpus.corpus import Corpus
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index, Passage, RunFolder

PASS, SUMS, FACTORS, WHITENING = "gradients", "R_train", "Cholesky factors and eigenvalues", "whitening"
TARGET = 0.10


def main() -> None:
    """Time both parts, and print the stages' seconds."""
    given = parsed()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        index, clock = built(given, work)
        found = {PASS: clock.seconds[PASS] * given.passages / len(index), MOMENTS: clock.seconds[MOMENTS]}
        rest = finished(RunFolder(work / "random"), index.blocks, index.dim, given.passages)
        found |= {stage: rest.seconds[stage] for stage in (SUMS, FACTORS, WHITENING)}
        print(f"{given.model}, d = {index.dim:,}, {given.dtype}, {given.passages:,} passages")
        print(f"(pass of {len(index):,} passages, {index.summary['tokens']:,} tokens, scaled)")
    print("| stage | seconds | of the pass |\n| --- | ---: | ---: |")
    for stage, seconds in found.items():
        print(f"| {stage} | {seconds:.1f} | {seconds / found[PASS]:.1%} |")
    corrections = sum(found.values()) - found[PASS]
    print(f"| all corrections | {corrections:.1f} | {corrections / found[PASS]:.1%} |")
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
    clock, one = StageClock(), torch.ones(1)
    start_run(folder, {}, {"none": one})
    for shard, first in enumerate(range(0, rows, SHARD_ROWS)):
        names = [str(n) for n in range(first, min(rows, first + SHARD_ROWS))]
        counts = {"tokens": 0, "empty": 0, "too_short": 0}
        random = torch.randn(len(names), dim)
        write_raw_shard(folder, shard, [Passage(name, name, "") for name in names], random, counts)
    finish_run(folder, blocks, "oas", clock)
    return clock


if __name__ == "__main__":
    main()
