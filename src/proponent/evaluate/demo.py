"""The demo: the whole way from text to attribution, on a corpus made here and a model trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proponent.attribute.attribution import Attribution
from proponent.attribute.baselines import bm25
from proponent.attribute.indexing import build_index
from proponent.attribute.tracing import Tracer
from proponent.corpus.corpus import Corpus
from proponent.corpus.demo import generate
from proponent.corpus.example import Query
from proponent.corpus.queries import Queries
from proponent.evaluate.metrics import hits_within, mean, reciprocal_ranks
from proponent.gradients.pretrain import pretrain
from proponent.gradients.spec import FeatureSpec
from proponent.progress import Progress

# 8 blocks of 32 x 32 for the tiny model's four layers: enough for a few thousand sentences.
DIM = 2**13
SHOWN = 12


@dataclass(frozen=True)
class Retrieval:
    """How well a method finds gold passages: share of queries with one on top, MRR, Recall@10."""

    method: str
    top: float
    mrr: float
    recall: float


@dataclass(frozen=True)
class Demo:
    """What the demo made and found.

    shown: hits of a dozen facts.  retrieval: every method over all ``queries`` facts.
    """

    folder: Path
    shown: Attribution
    queries: int
    mix: float
    retrieval: tuple[Retrieval, ...]


def run_demo(folder: Path, seed: int, progress: Progress) -> Demo:
    """Generate, pretrain, index, trace and compare; what is there already is not made again."""
    corpus_files = generate(folder / "corpus", seed=seed)
    progress.say(f"corpus: {corpus_files.counts}")
    corpus = Corpus.read(corpus_files.sentences_path)
    trained = pretrain(corpus, folder / "model", "tiny", seed=seed, progress=progress)
    spec = FeatureSpec(model=str(trained.directory), dim=DIM, max_length=128, batch_tokens=4096, seed=seed)
    index = build_index(corpus, spec, folder / "run", progress=progress)
    queries = Queries.read(corpus_files.facts_path)
    progress.say(f"tracing {len(queries)} facts")
    tracer = Tracer(index)
    hits = {
        "TrackStar, task mix": tracer.trace(queries, "trackstar", task=queries),
        "TrackStar, R_train": tracer.trace(queries, "trackstar"),
        "gradient cosine": tracer.trace(queries, "cosine"),
        "BM25": bm25(corpus, queries),
    }
    for name, attribution in hits.items():
        attribution.write(folder / "hits" / f"{name.lower().replace(', ', '-').replace(' ', '-')}.jsonl")
    best = hits["TrackStar, task mix"]
    shown = Attribution(tuple(best[n] for n in _spread(queries, SHOWN)), best.settings)
    retrieval = tuple(_retrieval(name, attribution) for name, attribution in hits.items())
    return Demo(folder, shown, len(queries), best.settings["mix"], retrieval)


def _spread(queries: Sequence[Query], wanted: int) -> list[int]:
    """Positions of ``wanted`` queries, taken in turn from the relations."""
    by_relation: dict[str, list[int]] = {}
    for position, query in enumerate(queries):
        by_relation.setdefault(query.fields["relation"], []).append(position)
    rounds = zip(*(members * wanted for members in by_relation.values()), strict=False)
    return [position for turn in rounds for position in turn][:wanted]


def _retrieval(name: str, hits: Attribution) -> Retrieval:
    correct = [hit.record()["proponent_correct"] for hit in hits]
    return Retrieval(
        name, mean(hits_within(correct, 1)), mean(reciprocal_ranks(correct)), mean(hits_within(correct, 10))
    )
