"""The demo: the whole way from text to attribution, on a generated corpus and a model trained on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from proponent.attribute.attribution import Attribution, Hit
from proponent.attribute.baselines import bm25
from proponent.attribute.probability import target_probabilities
from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Query
from proponent.corpus.queries import Queries
from proponent.demo.corpus.drawing import generate
from proponent.errors import InputError
from proponent.evaluate.correctness import predictions
from proponent.evaluate.metrics import hits_within, mean, reciprocal_ranks
from proponent.files import parse_json, write_json
from proponent.gradients.spec import FeatureSpec
from proponent.pretraining import pretrain
from proponent.progress import Progress
from proponent.remote import require_local

# 8 blocks of 32 x 32 for the tiny model's four layers: enough for a few thousand sentences.
DIM = 2**13
SHOWN = 12  # facts that are printed
KNOWN = 0.5
RECORD = "demo.json"
ANSWERS = "predictions.jsonl"  # the model's own answer to each prompt
BEST = "TrackStar, task mix"
# What the demo makes, in this order, each with the file that is written last.
PARTS = {
    "corpus": "corpus/sentences.jsonl",
    "trained model": "model/model.safetensors",
    "index": "run/done.json",
    "answers": ANSWERS,
}


@dataclass(frozen=True)
class Scores:
    """How well gold passages are found: share of queries with one on top, MRR, Recall@10."""

    top: float
    mrr: float
    recall: float

    @classmethod
    def of(cls, hits: Sequence[Hit]) -> Scores:
        """The scores of hits; all 0 where there are none."""
        correct = [hit.record()["proponent_correct"] for hit in hits]
        found = (hits_within(correct, 1), reciprocal_ranks(correct), hits_within(correct, 10))
        return cls(*map(mean, found))


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    shown: hits of a dozen facts, with λ of the task mix in their settings.
    probabilities: p(target) of every fact, by id.
    retrieval: each method's scores over all facts, and over those that the model knows.
    """

    folder: Path
    shown: Attribution
    probabilities: Mapping[str, float]
    retrieval: Mapping[str, tuple[Scores, Scores]]

    @property
    def known(self) -> int:
        """Number of facts that the model knows: p(target) >= ``KNOWN``."""
        return sum(p >= KNOWN for p in self.probabilities.values())


def run_demo(folder: Path, seed: int, progress: Progress) -> Demo:
    """Generate a corpus, pretrain a model, index, trace and compare; called again, it goes on where it was.

    Raises InputError, and replaces nothing, where the folder holds something else or what another seed or
    another version of the demo made.
    """
    require_local(folder, "the demo is made in a folder of this machine; give a path")
    _begin(folder, seed, progress)
    made = generate(folder / "corpus", seed=seed)
    progress.say("corpus: " + ", ".join(f"{count:,} {name}" for name, count in made.counts.items()))
    corpus = Corpus.read(made.sentences_path)
    trained = pretrain(corpus, folder / "model", "tiny", seed=seed, progress=progress)
    spec = FeatureSpec(model=str(trained.directory), dim=DIM, max_length=128, batch_tokens=4096, seed=seed)
    tracer = Tracer(build_index(corpus, spec, folder / "run", progress=progress))
    queries = Queries.read(made.facts_path)
    progress.say(f"tracing {len(queries):,} facts")
    hits = {
        BEST: tracer.trace(queries, "trackstar", task=queries),
        "TrackStar, R_train": tracer.trace(queries, "trackstar"),
        "gradient cosine": tracer.trace(queries, "cosine"),
        "BM25": bm25(corpus, queries),
    }
    for name, attribution in hits.items():
        attribution.write(folder / "hits" / f"{name.lower().replace(', ', '-').replace(' ', '-')}.jsonl")
    encoded = [tracer.model.encoder.query(query, spec.max_length) for query in queries]
    probabilities = target_probabilities(tracer.model, encoded, spec.batch_tokens)
    predictions(tracer.model, queries, folder / ANSWERS, progress, samples=0)
    known = [n for n, p in enumerate(probabilities) if p >= KNOWN]
    best = hits[BEST]
    shown = tuple(best[n] for n in _spread(queries, known or range(len(queries)), SHOWN))
    return Demo(
        folder,
        Attribution(shown, best.settings),
        {query.id: p for query, p in zip(queries, probabilities, strict=True)},
        {name: (Scores.of(h), Scores.of([h[n] for n in known])) for name, h in hits.items()},
    )


def _begin(folder: Path, seed: int, progress: Progress) -> None:
    """Begin a demo in an empty folder, or say what there is of the one that was begun in it."""
    record = folder / RECORD
    if not folder.is_file() and not any(folder.glob("[!.]*")):
        write_json(record, {"seed": seed})
        return
    try:
        begun = parse_json(record.read_text(encoding="utf-8"))["seed"]
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(
            f"{folder} is not empty and holds no demo (no readable {RECORD}); give an empty or new folder"
        ) from None
    if begun != seed:
        raise InputError(f"{folder} holds a demo of seed {begun}, not of {seed}; give another folder")
    there = [name for name, file in PARTS.items() if (folder / file).exists()]
    following = next((name for name in PARTS if name not in there), "results")
    already = f"there already: {', '.join(there) or 'nothing'}"
    progress.say(f"{folder}: a demo was begun here; {already}; going on with: {following}")


def _spread(queries: Sequence[Query], positions: Sequence[int], wanted: int) -> list[int]:
    """At most ``wanted`` of the positions, taken in turn from the relations of their queries."""
    by_relation: dict[str, list[int]] = {}
    for position in positions:
        by_relation.setdefault(queries[position].fields["relation"], []).append(position)
    turns = zip_longest(*by_relation.values())
    return [position for turn in turns for position in turn if position is not None][:wanted]
