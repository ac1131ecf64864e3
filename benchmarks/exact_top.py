"""How many of a scan's best passages to score again: the exact top ten within the top N at each d.

    python benchmarks/exact_top.py FACTS RUN [RUN ...] [--queries 200]

The runs are of one corpus and model, with the same second moments and different --dim.  Exact scores are
those of method ``exact`` over the whole corpus.  Each cell is the mean over queries of the share of the ten
passages with the highest exact scores that are among the N with the highest of the scan.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from proponent.attribute.exact import exact_scores
from proponent.attribute.method import Method, method_for
from proponent.attribute.tracing import Tracer
from proponent.corpus.queries import Queries
from proponent.progress import Silent

TOP = 10
NUMBERS = (10, 20, 50, 100, 200, 500, 1000, 2000)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("facts", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--queries", type=int, default=200)
    given = parser.parse_args()
    queries = list(Queries.read(given.facts))[: given.queries]
    first = Tracer(given.runs[0])
    method = Method.of("exact" if first.index.white else "cosine")
    exact = exact_scores(first, queries, method, range(len(first.index)), Silent())
    numbers = [n for n in NUMBERS if n <= len(first.index)]
    print(
        f"{len(first.index):,} passages, {len(queries)} queries, share of the exact top {TOP} in the top N\n"
    )
    print("| d | " + " | ".join(f"{n:,}" for n in numbers) + " |")
    print("| ---: |" + " ---: |" * len(numbers))
    for run in given.runs:
        tracer = Tracer(run)
        scan = tracer.scan(tracer.features(queries, method.output), Method.of(method_for(tracer.index.spec)))
        scores = torch.cat([scan.scores(shard) for shard in tracer.index.shards()], 1)
        found = (f"{share:.3f}" for share in recalls(exact, scores, numbers))
        print(f"| {tracer.index.dim:,} | " + " | ".join(found) + " |", flush=True)


def recalls(exact: Tensor, scores: Tensor, numbers: list[int]) -> list[float]:
    """Share of the exact top ten in the top N of scores [q, n], for each N, averaged over queries."""
    best = exact.topk(TOP, 1).indices
    above = torch.stack([(scores > one[:, None]).sum(1) for one in scores.gather(1, best).unbind(1)], 1)
    return [float((above < n).double().mean()) for n in numbers]


if __name__ == "__main__":
    main()
