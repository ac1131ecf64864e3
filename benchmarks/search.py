"""Search against the machine's limits: memory bandwidth for one query, a matrix product for many.

    python benchmarks/search.py --rows 8192 --dim 65536 --queries 1 64

On an index of random rows in memory: bytes of its codes that the scan reads a second, beside what the
same threads read at best (a sum over the same bytes, taken as 64-bit integers), and beside a plain float32
product of the queries with as many rows that need no decoding.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
from side_by_side import in_turn, machine

from proponent.index.codes import encode_rows
from proponent.index.search import Piece, VectorScan, search

SHARD = 512


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
    pieces = [random_piece(first, given.dim) for first in range(0, given.rows, SHARD)]
    plain = torch.randn(SHARD, given.dim)  # one shard over and over: memory would not hold all in float32
    size = sum(piece.codes.nbytes for piece in pieces) / 1e9
    print(f"{given.rows:,} rows of {given.dim:,} coordinates, {size:.2f} GB of codes")
    print("| queries | scan, GB/s | memory, GB/s | scan / memory | product, rows/s | scan / product |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in given.queries:
        vectors = torch.randn(count, given.dim)
        scan = VectorScan(vectors, vectors.norm(dim=1), lambda piece: piece.whitened_norm)
        ways: dict[str, Callable[[], object]] = {
            "scan": partial(search, pieces, scan, 10),
            "read": lambda: [piece.codes.view(torch.int64).sum() for piece in pieces],
            "product": partial(products, vectors, plain, len(pieces)),
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


def random_piece(first: int, dim: int) -> Piece:
    """A shard of random rows, encoded as an index stores them."""
    rows = torch.randn(SHARD, dim)
    encoded = encode_rows(rows)
    return Piece(first, encoded["codes"], encoded["scale"], rows.norm(dim=1), rows.norm(dim=1))


if __name__ == "__main__":
    main()
