"""How many rows a certified search reads, and whether its bounds keep what they state.

    python benchmarks/certified.py COMPACT_RUN QUERIES --queries 50

For several confidences: rows of the full run that were read (median and largest), whether the answer is that
of a scan of the full run, and the share of queries of which any bound failed, beside the share allowed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

import torch

import proponent as pp
from proponent.attribute.method import Method, method_for
from proponent.attribute.tracing import Tracer
from proponent.build.compact import full_run
from proponent.index.certified import SURE, CodeBounds, Reader, bounds, find
from proponent.index.scores import QueryScan, QueryTerms

CONFIDENCES = (0.5, 0.9, 0.99, 0.999, SURE)
K = 10


def main() -> None:
    """Search, compare with the full scan, print a line a confidence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("queries")
    parser.add_argument("--queries", type=int, default=50, dest="limit")
    given = parser.parse_args()
    tracer = Tracer(given.run, "cpu")
    full, codes = full_run(tracer.index), tracer.index
    assert codes.sketch is not None
    inner = Method.of(method_for(codes.spec)).inner_product(None)
    terms = QueryTerms(
        tracer.features(list(pp.Queries.read(given.queries, limit=given.limit))), full.whitening
    )
    scan = QueryScan(terms, inner)
    began = time.perf_counter()
    exact = torch.cat([scan.scores(shard) for shard in full.shards()], 1)
    print(f"{len(exact)} queries, {exact.shape[1]:,} rows, {codes.sketch.size // 8:,} bytes a passage")
    print(f"scan of the full run, cold: {time.perf_counter() - began:.2f} s")
    print(
        "| confidence | rows read, median | most | same answer | queries with a bound that failed | allowed |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for confidence in CONFIDENCES:
        lower, upper = bounds(codes.shards(), CodeBounds(terms, inner, codes.sketch, confidence, len(codes)))
        failed = ((exact < lower) | (exact > upper)).any(1).float().mean()
        read, same = [], 0
        for number in range(len(exact)):
            one = terms.part(slice(number, number + 1))
            reader = Reader(QueryScan(one, inner), full.only, torch.full((len(full),), math.nan))
            found = find(reader, upper[number], K, math.inf)
            order = exact[number].sort(descending=True, stable=True).indices[:K]
            same += found.positions.tolist() == order.tolist()
            read.append(reader.rows_read)
        print(
            f"| {confidence:g} | {statistics.median(read):,.0f} | {max(read):,} | {same / len(exact):.0%} "
            f"| {float(failed):.3f} | {1 - confidence:.3g} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
