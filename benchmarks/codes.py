"""The scan of a compact index beside that of a full one, and beside a plain read of its bytes.

    python benchmarks/codes.py COMPACT_RUN --passages 1000000 --dim 65536

A compact index of so many passages is drawn from the run's rows, a tenth of their bits flipped at random.
Medians of rounds in turn, all in memory; the search keeps the best ten, as a trace does.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from search import SHARD, random_shard
from side_by_side import in_turn, machine
from torch import Tensor

from proponent.index.run import Index
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import Shard, search
from proponent.index.signs import SignRows
from proponent.index.whitening import ScaledIdentity, Whitening

ROUNDS, FLIPPED = 7, 0.1
FULL_ROWS = 8192  # rows of the full index: a gigabyte at 65,536 coordinates


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--passages", type=int, default=2**20)
    parser.add_argument("--dim", type=int, default=2**16, help="of the full index")
    given = parser.parse_args()
    index = Index(given.run)
    assert index.sketch is not None
    codes, size = resampled(index, given.passages), index.sketch.size // 8
    whitening = Whitening((ScaledIdentity(1.0, index.dim),), index.sketch)
    full = [random_shard(first, given.dim) for first in range(0, FULL_ROWS, SHARD)]
    plain = Whitening((ScaledIdentity(1.0, given.dim),))
    print(f"{given.passages:,} passages of {size:,} bytes; {FULL_ROWS:,} of {2 * given.dim:,} bytes\n")
    print("| queries | compact, passages/s | full, passages/s | ratio | read, GB/s | compact / read |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for queries in (1, 64):
        ways = {
            "compact": scanning(codes, torch.randn(queries, index.dim), whitening),
            "full": scanning(full, torch.randn(queries, given.dim), plain),
            "read": lambda: [shard.rows.codes.view(torch.int64).sum() for shard in codes],
        }
        found = in_turn(ways, ROUNDS)
        small, large, read = (statistics.median(found[way]) for way in ways)
        rates = given.passages / small, FULL_ROWS / large
        speed = given.passages * size / read / 1e9
        cells = (*rates, rates[0] / rates[1], speed, small / read)
        print("| {} | {:,.0f} | {:,.0f} | {:.1f} | {:.1f} | {:.2f} |".format(queries, *cells), flush=True)
    print(machine())


def scanning(shards: list[Shard], queries: Tensor, whitening: Whitening) -> Callable[[], object]:
    """A search for the best ten of all shards."""
    scan = QueryScan(QueryTerms(queries, whitening), InnerProduct("train", True))
    return lambda: search(shards, scan, 10)


def resampled(index: Index, passages: int) -> list[Shard]:
    """Shards of rows drawn from a run's, some of their bits flipped."""
    rows = [shard.rows for shard in index.shards() if isinstance(shard.rows, SignRows)]
    known = [torch.cat([getattr(part, name) for part in rows]) for name in ("codes", "scale", "norms")]
    made, draw = [], torch.Generator().manual_seed(0)
    noise = torch.rand(8, known[0].shape[1] * 64, generator=draw) < FLIPPED
    masks = (noise.view(8, -1, 8).byte() << torch.arange(8).byte()).sum(2).byte()  # [8, size * 8]
    for first in range(0, passages, SHARD):
        count = min(SHARD, passages - first)
        chosen = torch.randint(len(known[1]), (count,), generator=draw)
        start = int(torch.randint(masks.shape[1] - known[0].shape[1], (1,), generator=draw))
        flips = masks[torch.arange(count) % 8, start : start + known[0].shape[1]]
        codes, scale, norms = (part[chosen] for part in known)
        made.append(Shard(first, SignRows((codes ^ flips,), scale, norms, norms), norms))
    return made


if __name__ == "__main__":
    main()
