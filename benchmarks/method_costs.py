"""What each method of the tables of truth costs: a passage, the corpus once, and a query.

    python benchmarks/method_costs.py MODEL CORPUS FACTS --passages 1000 --queries 50

Seconds are given as shares of one epoch of plain training steps over the same passages, timed in turn with
the whole build: its sample for second moments apart, which does not grow with the corpus, and all the rest.
A query is its scan of the index with the index in memory; one without projection is a pass over the passages.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from indexing import train
from inputs import arguments, model_folder, passages
from side_by_side import machine, seconds
from stages import MOMENTS, StageClock

from proponent.attribute.exact import exact_scores
from proponent.attribute.method import Method, method_for
from proponent.attribute.tokens import indexed_chunks
from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index
from proponent.build.plan import cut_shards
from proponent.corpus.batches import batches
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Query
from proponent.corpus.queries import Queries
from proponent.evaluate.experiments.facts_study import WHITE, WIDER
from proponent.gradients.backprop import Batch
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.reference import EKFAC
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index
from proponent.progress import Silent

TOKENS = 2048  # that are computed at once
LENGTH = 257  # of a chunk, at most


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__, "facts")
    parser.add_argument("--passages", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--dim", type=int, default=2**13)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = load_model(model_folder(given.model, given.corpus, work), "cpu")
        corpus = Corpus.read(str(passages(given.corpus, given.passages, work / "corpus.jsonl")))
        specs = specs_of(model_folder(given.model, given.corpus, work), given.dim)
        queries = list(Queries.read(given.facts))[: given.queries]
        epochs, found = list[float](), {name: list[tuple[float, float]]() for name in specs}
        for number in range(given.rounds):
            epochs.append(epoch(model, corpus))
            for name, one in specs.items():
                found[name].append(built(corpus, one, work / f"{name}-{number}"))
        epoch_seconds = statistics.median(epochs)
        print(f"{given.passages:,} passages; an epoch of training takes {epoch_seconds:.2f} s\n")
        print("| method | passes and corrections | sample, once | bytes a passage | a query, ms |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for name, times in found.items():
            rest, moments = (statistics.median(part) / epoch_seconds for part in zip(*times, strict=True))
            index = Index(work / f"{name}-0")
            size, scan = bytes_of(index) / len(index), 1000 * scanned(index, queries)
            print(f"| {name} | {rest:.2f} | {moments:.2f} | {size:,.0f} | {scan:.2f} |", flush=True)
        tracer = Tracer(work / f"Kronecker, {given.dim:,}-0", "cpu")
        print(f"| exact | — | — | 0 | {1000 * exactly(tracer, queries):,.0f} |")
        fit, query = by_ekfac(tracer, queries)
        print(f"| EK-FAC | {fit / epoch_seconds:.2f} | — | 0 | {1000 * query:,.0f} |")
        print(f"\n{machine()}")


def specs_of(model: str, dim: int) -> dict[str, FeatureSpec]:
    """Of every method that has an index."""
    spec = FeatureSpec(model, dim, batch_tokens=TOKENS, max_length=LENGTH)
    return {
        f"TrackStar, {dim:,}": spec,
        f"Kronecker, {dim:,}": replace(spec, **WHITE),
        f"Kronecker, {WIDER:,}": replace(spec, **{**WHITE, "dim": WIDER}),
        "Kronecker, 4,096 bytes": replace(spec, **{**WHITE, "dim": WIDER, "size": 4096}),
    }


def epoch(model: LanguageModel, corpus: Corpus) -> float:
    """Seconds of forward and backward steps over the corpus."""
    (shard, *more) = cut_shards(corpus, model.encoder, LENGTH)
    rows = [row for part in (shard, *more) for row in part.rows]
    starts = [start for part in (shard, *more) for start in part.starts]

    def steps() -> None:
        for members in batches([len(row) for row in rows], TOKENS):
            train(model, Batch.of([rows[n] for n in members], [starts[n] for n in members]))

    model.causal.requires_grad_(True)
    taken = seconds(steps)
    model.causal.zero_grad()
    model.causal.requires_grad_(False)
    return taken


def built(corpus: Corpus, spec: FeatureSpec, folder: Path) -> tuple[float, float]:
    """Seconds of a build without its sample, and of the sample."""
    clock = StageClock()
    whole = seconds(lambda: build_index(corpus, spec, folder, "cpu", clock))
    moments = sum(clock.seconds.get(name, 0.0) for name in (MOMENTS, "features of the sample"))
    return whole - moments, moments


def bytes_of(index: Index) -> int:
    """Of the stored rows."""
    shards = range(len(index.summary["shards"]))
    return sum(index.folder.index(number).stat().st_size for number in shards)


def scanned(index: Index, queries: list[Query]) -> float:
    """Seconds of a scan, a query."""
    tracer = Tracer(index, "cpu")
    features, method = tracer.features(queries), Method.of(method_for(index.spec))
    times = [seconds(lambda: tracer.rank(queries, features, method)) for _ in range(5)]
    return statistics.median(times) / len(queries)


def exactly(tracer: Tracer, queries: list[Query]) -> float:
    """Seconds of scores of all passages without projection, a query."""
    method, rows = Method.of("exact"), range(len(tracer.index))
    _ = tracer.unprojected
    return seconds(lambda: exact_scores(tracer, queries, method, rows, Silent())) / len(queries)


def by_ekfac(tracer: Tracer, queries: list[Query]) -> tuple[float, float]:
    """Seconds of fitting EK-FAC to all passages, and of its influence of all passages, a query."""
    chunks = indexed_chunks(tracer, range(len(tracer.index)))
    rows, starts = [chunk.tokens for chunk in chunks], [chunk.start for chunk in chunks]
    encoded = [tracer.model.encoder.query(query, tracer.spec.max_length) for query in queries]
    asked = [query.tokens for query in encoded], [query.boundary for query in encoded]
    began = time.perf_counter()
    fitted = EKFAC.of(tracer.model, tracer.plan.matrices, rows, starts, seed=0)
    fit = time.perf_counter() - began
    return fit, seconds(lambda: fitted.products(asked, (rows, starts))) / len(queries)


if __name__ == "__main__":
    main()
