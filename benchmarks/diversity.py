"""What `trace --diverse` changes: repetition within the first ten proponents, and how many of them are gold.

    python benchmarks/diversity.py RUN FACTS --method trackstar cosine

A proponent repeats another where their cosine under the method's inner product is above what the best
hundred passages have by chance (``attribute/distinct.py``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from proponent.attribute.attribution import Hit
from proponent.attribute.distinct import beyond_chance
from proponent.attribute.method import Method
from proponent.attribute.tracing import Tracer
from proponent.corpus.queries import Queries
from proponent.evaluate.evaluation import evaluate
from proponent.evaluate.gold import Gold
from proponent.evaluate.metrics import estimate
from proponent.index.similarity import similarities

SHOWN, RETRIEVED = 10, 100


def main() -> None:
    """Trace with and without, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("facts")
    parser.add_argument("--method", nargs="+", default=["trackstar", "cosine"])
    parser.add_argument("--queries", type=int, default=200)
    given = parser.parse_args()
    tracer, gold = Tracer(given.run, "cpu"), Gold.read(given.facts)
    queries = Queries.read(given.facts, limit=given.queries)
    print("| method | first ten | repeat one before | largest likeness to one before | MRR | Recall@10 |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in given.method:
        alike = [likeness(tracer, Method.of(name), hit) for hit in tracer.trace(queries, name, RETRIEVED)]
        for words, diverse in (("by score", False), ("diverse", True)):
            hits = tracer.trace(queries, name, SHOWN, diverse=diverse)
            nearest = [repeats(hit, rows) for hit, rows in zip(hits, alike, strict=True)]
            scores = evaluate(hits, gold).estimates()
            repeated = estimate([sum(value > 0 for value in row) / len(row) for row in nearest])
            largest = estimate([max(row) for row in nearest])
            print(f"| {name} | {words} | {repeated} | {largest} | {scores['MRR']} | {scores['Recall@10']} |")


def likeness(tracer: Tracer, method: Method, hit: Hit) -> tuple[list[int | None], torch.Tensor]:
    """The rows of the best hundred passages, and how like they are to each other beyond chance."""
    rows = sorted(passage.row for passage in hit.proponents if passage.row is not None)
    shards = tracer.index.only(torch.tensor(rows))
    cosines = similarities(shards, method.inner_product(None), tracer.index.whitening)
    return list(rows), beyond_chance(cosines)


def repeats(hit: Hit, known: tuple[list[int | None], torch.Tensor]) -> Sequence[float]:
    """The largest likeness of each proponent but the first to one before it; 0 for none."""
    rows, alike = known
    places = [rows.index(passage.row) for passage in hit.proponents]
    return [float(alike[place, places[:n]].max()) for n, place in enumerate(places) if n] or [0.0]


if __name__ == "__main__":
    main()
