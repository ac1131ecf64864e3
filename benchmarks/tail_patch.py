"""Tail-patch: the batched low-rank path against a loop that steps, measures and restores.

    PYTHONPATH=. python benchmarks/tail_patch.py RUN HITS... --queries 12 --loop 10

measures the top ten proponents of some queries of result files both ways, in one run, and prints
steps a second, their ratio, and the largest disagreement of the probabilities.  The loop is the tests' own.
A pair of query and passage that several files hold is measured once, a passage that several queries retrieved
gives its gradient once; the loop gains from neither, so the table says how many pairs and passages it is of.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

from side_by_side import machine
from tests.references.tail_patch import stepped_probability

from proponent.attribute.attribution import Attribution
from proponent.attribute.tail_patch import PatchStep, TailPatcher
from proponent.attribute.tracing import Tracer
from proponent.corpus.example import EncodedQuery, Query


def main() -> None:
    """Time both ways, a few rounds in turn, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("hits", nargs="+")
    parser.add_argument("--queries", type=int, default=12, help="first queries of each file")
    parser.add_argument("--loop", type=int, default=10, help="pairs that the loop takes a round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    tracer = Tracer(given.run, "cpu")
    step = PatchStep.for_model(tracer.spec.model)
    patcher = TailPatcher(tracer.model, tracer.plan.matrices, tracer.moments, step, tracer.spec.batch_tokens)
    passages, pairs = read_pairs(given.hits, given.queries, tracer)
    print(f"{len(pairs)} pairs of query and passage, {len(passages)} passages")
    picked = random.Random(0).sample(range(len(pairs)), given.loop)
    ratios, worst = [], 0.0
    for _ in range(given.rounds):
        began = time.perf_counter()
        fast = dict(patcher.patched(passages, pairs))
        fast_rate = len(pairs) / (time.perf_counter() - began)
        began = time.perf_counter()
        for n in picked:
            query, passage = pairs[n]
            slow = stepped_probability(
                tracer.model, tracer.plan.matrices, tracer.moments, step, passages[passage], query
            )
            worst = max(worst, abs(slow - fast[n]) / slow)
        slow_rate = given.loop / (time.perf_counter() - began)
        ratios.append(fast_rate / slow_rate)
        print(f"batched {fast_rate:.2f} steps/s, loop {slow_rate:.2f} steps/s, ratio {ratios[-1]:.1f}")
    print(f"median ratio {statistics.median(ratios):.1f}; largest relative difference {worst:.1e}")
    print(machine())


def read_pairs(
    paths: list[str], queries: int, tracer: Tracer
) -> tuple[list[tuple[int, ...]], list[tuple[EncodedQuery, int]]]:
    """Tokens of every passage, and every pair of a query and the number of a passage, once each."""
    encode, longest = tracer.model.encoder, tracer.spec.max_length
    texts: dict[str, str] = {}
    asked: dict[tuple[str, str], Query] = {}
    for path in paths:
        for hit in Attribution.read(path)[:queries]:
            for passage in hit.proponents[:10]:
                texts[passage.id] = passage.text
                asked[hit.query.id, passage.id] = hit.query
    numbers = {id: n for n, id in enumerate(texts)}
    pairs = [(encode.query(query, longest), numbers[id]) for (_, id), query in asked.items()]
    return [encode.passage(text, longest) for text in texts.values()], pairs


if __name__ == "__main__":
    main()
