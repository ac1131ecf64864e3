"""A task mix for new queries against a plain scan with the same queries, on a finished run.

    python benchmarks/task_mix.py RUN FACTS --queries 200

Both start from the queries' features and end with the top ten: the mix of the queries' own task, its
eigenvectors included, beside R_train alone.  No pass of the model is in either.
"""

from __future__ import annotations

import argparse

from side_by_side import in_turn, machine, ratio

from proponent.attribute.tracing import Tracer
from proponent.corpus.queries import Queries
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import search


def main() -> None:
    """Time both and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("facts")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--mix", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    tracer = Tracer(given.run, "cpu")
    queries = Queries.read(given.facts, limit=given.queries)
    features, whitening = tracer.features(queries), tracer.index.whitening

    def scan(inner: InnerProduct) -> None:
        search(tracer.index.shards(), QueryScan(QueryTerms(features, whitening, inner.subspace), inner), 10)

    found = in_turn(
        {
            "plain": lambda: scan(InnerProduct("train", True)),
            "mixed": lambda: scan(InnerProduct("mixed", True, tracer.task_mix(queries, given.mix))),
        },
        given.rounds,
    )
    print(f"{len(tracer.index):,} passages, d = {tracer.index.dim:,}, {len(queries)} queries")
    print("| scan | seconds | ratio |\n| --- | ---: | ---: |")
    for name, times in found.items():
        print(f"| {name} | {min(times):.2f} | {ratio(found, name, 'plain'):.2f} |")
    print(machine())


if __name__ == "__main__":
    main()
