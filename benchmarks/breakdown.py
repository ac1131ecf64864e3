"""Where an index spends its processor seconds: by stage, and in the pass by kind of operation.

    python benchmarks/breakdown.py MODEL CORPUS --passages 1600 --dim 16384

The first table is of a whole build.  The second is a profile of one lane, by one thread with the machine to
itself, over the first tokens of the corpus; what no operation accounts for is Python and the way to them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from builds import extractor
from indexing import head
from inputs import arguments, model_folder, passages
from side_by_side import machine
from stages import StageClock, clocks
from torch.profiler import ProfilerActivity, profile

from proponent.build.indexing import build_index
from proponent.corpus.corpus import Corpus
from proponent.gradients.features import extract
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.spec import FeatureSpec
from proponent.scale.cost import feature_operations, gradient_operations
from proponent.scale.shapes import shapes

# Operations whose names hold one of these are of that kind; all others are elementwise or sums.
KINDS = {
    "attention": ("scaled_dot_product",),
    "products": ("_linear_pointwise", "mm", "linear"),
    "copies, rounding among them": ("copy", "clone", "cat", "index"),
}
ELEMENTWISE, PYTHON, PASS = "elementwise, softmax, sums", "Python, and what is not an operation", "gradients"


def main() -> None:
    """Build, profile, and print both tables."""
    given = parsed()
    started = time.process_time()
    plain = patch("proponent.products._HAS_ONEDNN", False) if given.plain else nullcontext()
    with tempfile.TemporaryDirectory() as name, plain:
        work = Path(name)
        folder = model_folder(given.model, given.corpus, work)
        spec = FeatureSpec(folder, dim=given.dim, batch_tokens=given.tokens, dtype=given.dtype)
        print(f"{given.model}, {given.dtype}, d = {given.dim:,}; imports took {started:.1f} s")
        if given.passages:
            text = passages(given.corpus, given.passages, work / "passages.jsonl")
            print_stages(spec, text, work / "run")
        one_lane(load_model(folder, "cpu"), spec, given)
    print(f"\n{machine()}")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = arguments(__doc__)
    parser.add_argument("--passages", type=int, default=1600, help="0: the profile alone")
    parser.add_argument("--dim", type=int, default=2**14)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens a batch, all lanes together")
    parser.add_argument("--count", type=int, default=8192, help="tokens that are profiled")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--plain", action="store_true", help="torch's own products")
    return parser.parse_args()


def print_stages(spec: FeatureSpec, text: Path, run: Path) -> None:
    """Build an index; seconds of the wall and of the processor, of each stage and of what is between them."""
    clock, began = StageClock(), clocks()
    index = build_index(Corpus.read(str(text)), spec, run, "cpu", clock)
    whole = [after - before for before, after in zip(began, clocks(), strict=True)]
    found = {name: [spent, clock.processor[name]] for name, spent in clock.seconds.items()}
    between = [whole[0] - sum(clock.seconds.values()), whole[1] - sum(clock.processor.values())]
    print(f"\n{len(index):,} passages, {index.summary['tokens']:,} tokens:")
    print("| stage | seconds | processor seconds | of all |\n| --- | ---: | ---: | ---: |")
    for name, (wall, processor) in {**found, "loading, reading, sealing": between, "all": whole}.items():
        print(f"| {name} | {wall:.1f} | {processor:.1f} | {processor / whole[1]:.1%} |", flush=True)


def one_lane(model: LanguageModel, spec: FeatureSpec, given: argparse.Namespace) -> None:
    """Profile a lane of one thread, and print its seconds by kind."""
    lanes = torch.get_num_threads()
    torch.set_num_threads(1)
    shard = head(given.corpus, model, given.count)
    plan, budget = plan_layers(model, spec.dim, spec.layer_groups), given.tokens // lanes
    model.multiply_in(spec.dtype)
    made_by = extractor(model, plan, shard, budget)
    extract([made_by], shard.rows, shard.starts, "loss")
    with profile(activities=[ProfilerActivity.CPU]) as kept:
        began = time.perf_counter()
        extract([made_by], shard.rows, shard.starts, "loss")
        whole = time.perf_counter() - began
    torch.set_num_threads(lanes)
    found = by_kind({event.key: event.self_cpu_time_total / 1e6 for event in kept.key_averages()}, whole)
    counted = products(model, spec, shard.rows)
    print(f"\n{PASS} of {shard.tokens:,} tokens, {budget:,} a batch, one thread:")
    print("| kind | seconds | of the lane |\n| --- | ---: | ---: |")
    for kind, spent in {**found, "all": whole}.items():
        print(f"| {kind} | {spent:.2f} | {spent / whole:.1%} |")
    rate = counted / found["products"] / 1e9
    print(f"Products are {counted / 1e12:.2f} TFLOP by the cost model: {rate:.0f} GFLOP/s.")


def by_kind(operations: Mapping[str, float], whole: float) -> dict[str, float]:
    """Seconds of each kind, from those of every operation without the ones that it calls."""
    found = dict.fromkeys([*KINDS, ELEMENTWISE], 0.0)
    for name, spent in operations.items():
        kinds = (kind for kind, parts in KINDS.items() if any(part in name for part in parts))
        found[next(kinds, ELEMENTWISE)] += spent
    return {**found, PYTHON: whole - sum(found.values())}


def products(model: LanguageModel, spec: FeatureSpec, rows: Sequence[Sequence[int]]) -> int:
    """Operations in products of the model's matrices, the logits and the features, attention left out."""
    shape, features = shapes(model, spec.dim, spec.layer_groups)
    alone = replace(shape, attention=0)
    return sum(
        gradient_operations(alone, len(row)) + feature_operations(alone, features, len(row)) for row in rows
    )


if __name__ == "__main__":
    main()
