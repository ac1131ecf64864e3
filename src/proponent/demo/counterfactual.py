"""What the demo's model would have said without some passages: trained again, three times, to find out."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from proponent.attribute.attribution import Attribution, Hit
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example
from proponent.demo.story import Demo
from proponent.evaluate.retraining import Retraining, Training
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index
from proponent.pretraining.again import Recipe
from proponent.progress import Progress

TOP = 3
OWN, TEXT, CHANCE = "TrackStar", "BM25", "random"


@dataclass(frozen=True)
class Counterfactual:
    """p(target) of the demo's shown facts as the model is, and after training without passages.

    hits: the facts with their top passages, and the probabilities as fields of each.
    without: p by whose passages were left out, then by fact id.  left_out: how many passages each.
    """

    hits: Attribution
    before: Mapping[str, float]
    without: Mapping[str, Mapping[str, float]]
    left_out: Mapping[str, int]
    file: Path


def counterfactual(demo: Demo, seed: int, progress: Progress) -> Counterfactual:
    """Train the demo's model again without the top 3 passages of every shown fact.

    Without TrackStar's, without BM25's and without as many random ones: all facts' passages are left out in
    one training.  Called again, it goes on, and what is trained is kept.
    """
    index = Index(demo.folder / "run")
    passages = tuple(Corpus.read(demo.folder / "corpus" / "sentences.jsonl"))
    queries = tuple(hit.query for hit in demo.shown)
    recipe, length = Recipe.of(str(demo.folder / "model")), FeatureSpec.from_dict(index.spec).max_length
    named, trained = _left_out(demo, passages, seed), int(recipe.settings["seed"])
    trainings = {name: Training(f"without {name}", numbers, trained) for name, numbers in named.items()}
    again = Retraining(recipe, passages, queries, length, demo.folder / "counterfactual" / "retrained.jsonl")
    found = again.log_probabilities(list(trainings.values()), progress)
    ids = [query.id for query in queries]
    without = {
        name: dict(zip(ids, map(math.exp, found[training]), strict=True))
        for name, training in trainings.items()
    }
    before = {id: demo.probabilities[id] for id in ids}
    hits = Attribution(tuple(_told(hit, before, without) for hit in demo.shown), demo.shown.settings)
    file = demo.folder / "counterfactual" / "counterfactual.jsonl"
    hits.write(file)
    counts = {name: len(numbers) for name, numbers in named.items()}
    return Counterfactual(hits, before, without, counts, file)


def _left_out(demo: Demo, passages: Sequence[Example], seed: int) -> dict[str, frozenset[int]]:
    """Numbers of the passages that are left out, by whose they are."""
    numbers = {passage.id: number for number, passage in enumerate(passages)}
    by_text = {hit.query.id: hit for hit in Attribution.read(demo.folder / "hits" / "bm25.jsonl")}
    draw = random.Random(seed)

    def top(hits: Sequence[Hit]) -> frozenset[int]:
        return frozenset(numbers[p.source] for hit in hits for p in hit.proponents[:TOP])

    return {
        OWN: top(demo.shown),
        TEXT: top([by_text[hit.query.id] for hit in demo.shown]),
        CHANCE: frozenset(n for _ in demo.shown for n in draw.sample(range(len(passages)), TOP)),
    }


def _told(hit: Hit, before: Mapping[str, float], without: Mapping[str, Mapping[str, float]]) -> Hit:
    """A hit's top passages, with the probabilities as fields, which the page shows."""
    id = hit.query.id
    told = {"p": before[id]} | {f"p without {name}'s top {TOP}": p[id] for name, p in without.items()}
    told = {name.replace("random's top", "random"): round(p, 4) for name, p in told.items()}
    query = replace(hit.query, fields={**hit.query.fields, **told})
    return Hit(query, hit.proponents[:TOP], ())
