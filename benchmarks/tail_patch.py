"""Tail-patch: the batched low-rank path against a loop that steps, measures and restores.

    python benchmarks/tail_patch.py RUN HITS --queries 3 --loop 10

measures the top ten proponents of some queries of a result file both ways, in one run, and prints
steps a second, their ratio, and the largest disagreement of the probabilities.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch

from proponent.attribute.attribution import Attribution
from proponent.attribute.tail_patch import PatchStep, TailPatcher
from proponent.attribute.tail_patch_reference import stepped_probability
from proponent.attribute.tracing import Tracer


def main() -> None:
    """Time both ways, a few rounds in turn, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("hits")
    parser.add_argument("--queries", type=int, default=3)
    parser.add_argument("--loop", type=int, default=10, help="pairs that the loop takes a round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    tracer = Tracer(given.run, "cpu")
    hits = Attribution.read(given.hits)[: given.queries]
    step = PatchStep.for_model(tracer.spec.model)
    patcher = TailPatcher(tracer.model, tracer.plan.matrices, tracer.moments, step, tracer.spec.batch_tokens)
    encode, longest = tracer.model.encoder, tracer.spec.max_length
    queries = [encode.query(hit.query, longest) for hit in hits]
    passages = [encode.passage(p.text, longest) for hit in hits for p in hit.proponents]
    per_query = len(passages) // len(queries)
    pairs = [(queries[n // per_query], n) for n in range(len(passages))]
    ratios, worst = [], 0.0
    for _ in range(given.rounds):
        began = time.perf_counter()
        fast = dict(patcher.patched(passages, pairs))
        fast_rate = len(pairs) / (time.perf_counter() - began)
        began = time.perf_counter()
        for n, (query, passage) in enumerate(pairs[: given.loop]):
            slow = stepped_probability(
                tracer.model, tracer.plan.matrices, tracer.moments, step, passages[passage], query
            )
            worst = max(worst, abs(slow - fast[n]) / slow)
        slow_rate = given.loop / (time.perf_counter() - began)
        ratios.append(fast_rate / slow_rate)
        print(f"batched {fast_rate:.2f} steps/s, loop {slow_rate:.2f} steps/s, ratio {ratios[-1]:.1f}")
    print(f"median ratio {statistics.median(ratios):.1f}; largest relative difference {worst:.1e}")
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
