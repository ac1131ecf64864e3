"""Indexing in bfloat16 against float32: tokens a second, and how far their traces agree.

    python benchmarks/bfloat16.py MODEL CORPUS FACTS --passages 1000 --queries 50

The rate is of the indexing pass (forward, backward, features, a shard on disk), the two dtypes in turn over
the same passages, and float32 once more by torch's own products instead of oneDNN's.  Overlap is the share of
the ten highest passages that both whole runs have in common, each run with its own features and R; mean over
queries, and its standard error.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from builds import extractor, index_again, staged
from inputs import arguments, model_folder, passages
from side_by_side import in_turn, machine, ratio

from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index
from proponent.build.plan import cut_shards
from proponent.corpus.corpus import Corpus
from proponent.corpus.queries import Queries
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import load_model
from proponent.gradients.spec import FeatureSpec

DTYPES = ("float32", "bfloat16")
K = 10


def main() -> None:
    """Time the passes, then compare the traces, and print both tables."""
    parser = arguments(__doc__, "facts")
    parser.add_argument("--passages", type=int, default=1000, help="of the runs whose traces are compared")
    parser.add_argument("--timed", type=int, default=256, help="passages of the timed passes")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--dim", type=int, default=2**16)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=("speed", "overlap", "both"), default="both")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        spec = FeatureSpec(
            model_folder(given.model, given.corpus, work), dim=given.dim, batch_tokens=given.tokens
        )
        print(f"{given.model}, d = {spec.dim:,}, {spec.batch_tokens:,} tokens a batch")
        if given.part != "overlap":
            print_speed(spec, given, work)
        if given.part != "speed":
            print_overlap(spec, given, work)
    print(
        f"{machine()}; bfloat16 products: {'yes' if torch.ops.mkldnn._is_mkldnn_bf16_supported() else 'no'}"
    )


def print_speed(spec: FeatureSpec, given: argparse.Namespace, work: Path) -> None:
    """Tokens a second of the pass in both dtypes."""
    ways: dict[str, Callable[[], object]] = {}
    for dtype in DTYPES:
        model = load_model(spec.model, device="cpu")
        corpus = Corpus.read(given.corpus, limit=given.timed)
        shards = list(cut_shards(corpus, model.encoder, 512))
        plan = plan_layers(model, spec.dim, spec.layer_groups)
        model.multiply_in(dtype)
        made_by = extractor(model, plan, shards[0], spec.batch_tokens)
        ways[dtype] = partial(index_again, staged(work / f"timed-{dtype}", shards, made_by))
        if dtype == "float32":
            ways["float32, torch's own products"] = patch("proponent.products._HAS_ONEDNN", False)(
                ways[dtype]
            )
    tokens = sum(shard.tokens for shard in shards)
    found = in_turn(ways, given.rounds)
    print(f"{given.timed:,} passages, {tokens:,} tokens a pass, {given.rounds} rounds")
    print("| dtype | tokens/s | speed of float32's |\n| --- | ---: | ---: |")
    for dtype, times in found.items():
        print(
            f"| {dtype} | {tokens / statistics.median(times):,.0f} | {ratio(found, 'float32', dtype):.2f} |"
        )


def print_overlap(spec: FeatureSpec, given: argparse.Namespace, work: Path) -> None:
    """Share of the top ten in common, with R_train alone and with the queries' own task mix."""
    text = passages(given.corpus, given.passages, work / "passages.jsonl")
    queries = Queries.read(given.facts, limit=given.queries)
    tops: dict[tuple[str, str], list[set[str]]] = {}
    for dtype in DTYPES:
        run = build_index(Corpus.read(str(text)), replace(spec, dtype=dtype), work / dtype, "cpu")
        tracer = Tracer(run, "cpu")
        for name, task in (("R_train", None), ("task mix", queries)):
            hits = tracer.trace(queries, k=K, task=task)
            tops[dtype, name] = [{passage.id for passage in hit.proponents} for hit in hits]
    print(f"\n{given.passages:,} passages, {len(queries)} queries")
    print(f"| Hessian | top-{K} overlap | standard error | worst query | same first ten |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in ("R_train", "task mix"):
        pairs = zip(tops["float32", name], tops["bfloat16", name], strict=True)
        shares = [len(one & other) / K for one, other in pairs]
        same = sum(share == 1 for share in shares)
        error = statistics.stdev(shares) / len(shares) ** 0.5
        found = f"{statistics.mean(shares):.3f} | {error:.3f} | {min(shares):.1f}"
        print(f"| {name} | {found} | {same} of {len(shares)} |")


if __name__ == "__main__":
    main()
