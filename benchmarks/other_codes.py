"""Other codes of as many bytes a passage, beside the signs that a compact run keeps.

    python benchmarks/other_codes.py RUN FACTS --bytes 4096 2048

RUN: a run whose model ``pretrain`` made and whose ``experiment lds`` has kept its retrained models' answers;
the codes are of its Kronecker features at d = 131,072.  Queries are never coded, and norms are kept exactly.
Rows: LDS and MRR on the relations that nothing is chosen on, and the share of the uncoded features' first ten
passages that are a code's.  Product quantisation is faiss's, where that is installed; each half of the rows
is coded with centroids of the other half, since those of few rows would be the rows themselves.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from levers import Features, Judge, unit
from torch import Tensor

from proponent.evaluate.experiments.facts_study import WHITE, WIDER
from proponent.evaluate.experiments.given import Given
from proponent.evaluate.experiments.lds import Halves
from proponent.evaluate.metrics import estimate
from proponent.index.sketch import Sketch
from proponent.progress import OnStderr

BITS = 8  # in a byte, and of an index of product quantisation
LEVELS = {1: 0.7979, 2: 0.9957, 4: 0.3352}  # steps of the best uniform quantiser of a Gaussian (Max, 1960)
SUBVECTORS_TRAINED = 256  # whose faiss quantiser is trained at a time

Coded = tuple[str, Tensor, Tensor]  # name, rows as they are decoded, queries to multiply with them


def codes(features: Features, size: int) -> Iterator[Coded]:
    """Codes of ``size`` bytes a row of features."""
    queries, rows, dim = features.queries, features.rows, features.rows.shape[1]
    for bits in (1, 2, 4):
        sketch = Sketch(dim, size * BITS // bits, 0)
        yield f"sketch, {bits} bits", quantised(sketch(rows), bits), sketch(queries)
    # reverse water-filling over the coordinates' variances: at this rate one bit or none each
    kept = rows.square().mean(0).topk(size * BITS).indices
    yield "signs of the coordinates that vary most", quantised(rows[:, kept], 1), queries[:, kept]
    for rank in (1, 2, 4):
        bits = size * BITS // (rank * features.blocks * 2 * int((dim // features.blocks) ** 0.5))
        if 2 <= bits <= 16:
            yield (
                f"rank {rank} of each block, {bits} bits",
                factors(rows, features.blocks, rank, bits),
                queries,
            )
    if find_spec("faiss"):
        yield "product quantisation", by_products(rows, size), queries


def quantised(rows: Tensor, bits: int) -> Tensor:
    """Rows by a uniform quantiser of so many bits, scaled to a Gaussian's deviation."""
    deviation = rows.square().mean(1, keepdim=True).sqrt().clamp_min(1e-30)
    step, half = 2 * LEVELS[1] if bits == 1 else LEVELS[bits], 2 ** (bits - 1)
    whole = (rows / deviation / step).floor().clamp(-half, half - 1) + 0.5
    made: Tensor = whole * step * deviation
    return made


def factors(rows: Tensor, blocks: int, rank: int, bits: int) -> Tensor:
    """The nearest matrices of a rank to each block's square, their factors in so many bits."""
    torch.manual_seed(0)
    made = []
    for block in rows.chunk(blocks, 1):
        side = int(block.shape[1] ** 0.5)
        left, sizes, right = torch.svd_lowrank(block.view(-1, side, side), rank + 4, niter=4)
        scale = sizes[:, None, :rank].sqrt()
        sides = (rounded(part[:, :, :rank] * scale, bits) for part in (left, right))
        one, other = sides
        made.append((one @ other.transpose(1, 2)).flatten(1))
    return torch.cat(made, 1)


def rounded(values: Tensor, bits: int) -> Tensor:
    """Columns [n, p, c] in so many bits of their largest entry."""
    most = values.abs().amax(1, keepdim=True).clamp_min(1e-30) / (2 ** (bits - 1) - 0.5)
    made: Tensor = ((values / most - 0.5).round() + 0.5) * most
    return made


def by_products(rows: Tensor, size: int) -> Tensor:
    """Rows by product quantisation: a byte for each of ``size`` parts, with centroids of its own."""
    import faiss  # type: ignore[import-not-found]

    made = torch.empty_like(rows)
    width = rows.shape[1] // size
    for first in range(0, size, SUBVECTORS_TRAINED):
        part = slice(first * width, min(first + SUBVECTORS_TRAINED, size) * width)
        quantiser = faiss.ProductQuantizer(part.stop - part.start, (part.stop - part.start) // width, BITS)
        for half in (0, 1):
            quantiser.train(rows[1 - half :: 2, part].contiguous().numpy())
            values = rows[half::2, part].contiguous().numpy()
            made[half::2, part] = torch.from_numpy(quantiser.decode(quantiser.compute_codes(values)))
    return made


def cosines(queries: Tensor, rows: Tensor, norms: Tensor) -> Tensor:
    """Estimated cosines of queries with coded rows, whose true norms are known."""
    return unit(queries) @ rows.T / norms


def reciprocal_ranks(study: Halves, scores: Tensor) -> Tensor:
    """Of each query's first gold passage, 0 beyond the hundredth."""
    sources = [row.source for row in study.index.rows()]
    found = []
    for query, best in zip(study.queries, scores.topk(100, dim=1).indices.tolist(), strict=True):
        gold = set(study.facts[query.id].trex_sentences)
        ranks = [rank for rank, row in enumerate(best, 1) if sources[row] in gold]
        found.append(1 / ranks[0] if ranks else 0.0)
    return torch.tensor(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("facts", type=Path)
    parser.add_argument("--bytes", type=int, nargs="+", default=[4096, 2048])
    given = parser.parse_args()
    study = Halves(Given(given.run, given.facts, progress=OnStderr()))
    judge = Judge(study)
    (run,) = study.variants([{**WHITE, "dim": WIDER}])
    features = Features.of(study.opened(run), study)
    norms, whole = features.rows.norm(dim=1), features.cosines()
    first = whole.topk(10, dim=1).indices
    print("| bytes | code | LDS | MRR | same first 10 |\n| ---: | --- | --- | --- | ---: |")

    def show(size: str, name: str, scores: Tensor) -> None:
        there = ~judge.chosen_on
        same = (scores.topk(10, dim=1).indices[:, :, None] == first[:, None]).any(2).float().mean()
        cells = (
            estimate(part[there].tolist()) for part in (judge.values(scores), reciprocal_ranks(study, scores))
        )
        print(f"| {size} | {name} | {' | '.join(map(str, cells))} | {same:.3f} |", flush=True)

    show(f"{2 * WIDER:,}", "float16", whole)
    for size in given.bytes:
        for name, rows, queries in codes(features, size):
            show(f"{size:,}", name, cosines(queries, rows, norms))


if __name__ == "__main__":
    main()
