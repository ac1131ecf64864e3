"""Search against the machine's limits: memory bandwidth for one query, a matrix product for many.

    python benchmarks/search.py --rows 8192 --dim 65536 --queries 1 64

On an index of random rows in memory: bytes of its codes that the scan reads a second, beside what the
same threads read at best (a sum over the same bytes, taken as 64-bit integers), and beside a plain float32
product of the queries with as many rows that need no decoding.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from functools import partial

import torch
from side_by_side import in_turn, machine

from proponent.index.codec import Rows, encode
from proponent.index.damping import Damping
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import Shard, search
from proponent.index.whitening import BlockWhitening, Whitening

SHARD = 512
BLOCK = 1024  # largest block of the whitening, which is none


def main() -> None:
    """Time every number of queries and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--dim", type=int, default=2**16)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    shards = [random_shard(first, given.dim) for first in range(0, given.rows, SHARD)]
    plain = torch.randn(SHARD, given.dim)  # one shard over and over: memory would not hold all in float32
    size = sum(shard.rows.codes.nbytes for shard in shards) / 1e9
    print(f"{given.rows:,} rows of {given.dim:,} coordinates, {size:.2f} GB of codes")
    print("| queries | scan, GB/s | memory, GB/s | scan / memory | product, rows/s | scan / product |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in given.queries:
        vectors = torch.randn(count, given.dim)
        scan = QueryScan(QueryTerms(vectors, unwhitened(given.dim)), InnerProduct("train", unit_norm=True))
        ways: dict[str, Callable[[], object]] = {
            "scan": partial(search, shards, scan, 10),
            "read": lambda: [shard.rows.codes.view(torch.int64).sum() for shard in shards],
            "product": partial(products, vectors, plain, len(shards)),
        }
        found = in_turn(ways, given.rounds)
        scanned, read, product = (statistics.median(found[way]) for way in ways)
        cells = (size / scanned, size / read, read / scanned, given.rows / product, product / scanned)
        shown = "{:.1f} | {:.1f} | {:.2f} | {:,.0f} | {:.2f}".format(*cells)
        print(f"| {count} | {shown} |")
    print(machine())


def products(vectors: torch.Tensor, plain: torch.Tensor, times: int) -> None:
    """The same product of vectors [q, d] with rows [c, d], so many times."""
    for _ in range(times):
        vectors @ plain.T


def random_shard(first: int, dim: int) -> Shard:
    """A shard of random rows, encoded as an index stores them."""
    rows = Rows.stored(encode(torch.randn(SHARD, dim)))
    return Shard(first, rows, rows.norms)


def unwhitened(dim: int) -> Whitening:
    """A whitening that changes nothing: random rows need none."""
    width = math.gcd(dim, BLOCK)
    block = BlockWhitening(torch.eye(width), torch.ones(width), Damping(1.0, 1.0))
    return Whitening((block,) * (dim // width))


if __name__ == "__main__":
    main()
