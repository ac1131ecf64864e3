"""A study: a finished run and its facts, with everything that experiments share, cached on disk.

Nothing is computed twice: hits of a method are a result file, effects of a step are a line each,
variants of the run are runs of their own.  So every experiment resumes where it stopped.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from proponent.attribute.attribution import Attribution, Hit
from proponent.attribute.baselines import random_passages
from proponent.attribute.tail_patch import PatchStep, TailPatcher
from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_indexes
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example
from proponent.corpus.queries import Queries
from proponent.errors import InputError
from proponent.evaluate.evaluation import Judged, evaluate
from proponent.evaluate.experiments.effects import Effects
from proponent.evaluate.gold import Gold
from proponent.evaluate.metrics import Estimate, estimate
from proponent.evaluate.text import points
from proponent.files import checksum, read_json, write_json
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index
from proponent.progress import Progress, Silent

RETRIEVED = 100
PATCHED = 10
TRACKSTAR, RANDOM = "TrackStar", "random"


class Scores(NamedTuple):
    """What most tables say of a method: retrieval over the facts reported on, tail-patch of the top 10."""

    mrr: Estimate
    recall: Estimate
    patch: Estimate

    @property
    def cells(self) -> tuple[str, str, str]:
        """As a table has them."""
        return str(self.mrr), str(self.recall), points(self.patch)


@dataclass
class Study:
    """One run under examination.

    run: a finished run.  facts: its facts file.  patch_queries: how many queries tail-patch samples.
    seed: of every sample.  Queries are the facts that have a gold passage in the run.
    """

    run: Path
    facts: Path
    patch_queries: int = 60
    seed: int = 0
    device: str | None = None
    progress: Progress = field(default_factory=Silent)
    _opened: tuple[Path, Tracer] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        made_with = {"facts": checksum(_existing(self.facts)), "seed": self.seed, "retrieved": RETRIEVED}
        record = self.folder / "study.json"
        Index(self.run)  # before anything is written: is it a run?
        if not record.is_file():
            _ = self.queries  # before anything is written: do the facts fit the run?
            write_json(record, made_with)
        elif read_json(record) != made_with:
            raise InputError(
                f"{self.folder}: its experiments were made with other facts or another seed; "
                "give the same ones, or remove the folder to start over"
            )

    @property
    def folder(self) -> Path:
        """Where everything is kept."""
        return self.run / "experiments"

    @cached_property
    def index(self) -> Index:
        """The run."""
        return Index(self.run)

    @cached_property
    def gold(self) -> Gold:
        """Gold passages of the facts."""
        return Gold.read(self.facts)

    @cached_property
    def queries(self) -> Queries:
        """Facts with a gold passage in the run; InputError where there is none."""
        here = {passage.source for passage in self.index.rows()}
        kept = [q.id for q in Queries.read(self.facts) if self.gold.passages.get(q.id, frozenset()) & here]
        if not kept:
            raise InputError(f"{self.facts}: no fact has a gold passage in {self.run}; are these its facts?")
        return Queries.read(self.facts).subset(kept)

    @cached_property
    def chosen_on(self) -> frozenset[str]:
        """Relations that settings may be chosen on: every other one, in an order fixed by hashing."""
        names = sorted({self.gold.facts[q.id].relation for q in self.queries}, key=_hashed)
        return frozenset(names[::2])

    def ids(self, reported: bool) -> list[str]:
        """Ids of the queries of the relations to report on, or of those to choose settings on."""
        return [
            q.id for q in self.queries if (self.gold.facts[q.id].relation not in self.chosen_on) == reported
        ]

    def relations(self, ids: Sequence[str]) -> int:
        """Number of relations of these queries."""
        return len({self.gold.facts[id].relation for id in ids})

    @cached_property
    def corpus(self) -> Corpus:
        """The run's rows as a corpus."""
        return Corpus.of([Example(row.id, row.text, "the run") for row in self.index.rows()])

    @cached_property
    def tracer(self) -> Tracer:
        """The run with its model."""
        return Tracer(self.index, self.device)

    @cached_property
    def step(self) -> PatchStep:
        """The default step of tail-patch."""
        return PatchStep.for_model(self.tracer.spec.model)

    def patched(
        self, methods: Mapping[str, Attribution], step: PatchStep | None = None, k: int = PATCHED
    ) -> dict[str, dict[str, float]]:
        """Mean tail-patch of the first k proponents of each method, by query id.

        step: the study's own unless given.  What is not known yet is measured for all methods together, so
        that a passage which several of them retrieved gives its gradient once.
        """
        cuts = {name: self.cut(hits) for name, hits in methods.items()}
        effects = self._effects([hit for cut in cuts.values() for hit in cut], step or self.step)
        return {name: effects.of(cut, k) for name, cut in cuts.items()}

    def _effects(self, hits: Sequence[Hit], step: PatchStep) -> Effects:
        if self.tracer.spec.second_moment == "none":
            raise InputError(f"{self.run}: tail-patch needs second moments; use a run that has them")
        kind = "relative" if step.relative else "absolute"
        effects = Effects.open(self.folder / f"effects-{step.learning_rate:.6g}-{kind}.jsonl")
        t = self.tracer
        patcher = TailPatcher(t.model, t.plan.matrices, t.moments, step, t.spec.batch_tokens)
        effects.measure(patcher, hits, t.spec.max_length, self.progress)
        return effects

    def hits(self, name: str, make: Callable[[], Attribution]) -> Attribution:
        """The hits called ``name``, from their result file or made and written to it."""
        path = self.folder / "hits" / f"{_file_name(name)}.jsonl"
        if not path.is_file():
            self.progress.say(f"hits: {name}")
            make().write(path)
        return Attribution.read(path)

    def traced(
        self,
        method: str,
        task: bool = False,
        mix: float | str = "auto",
        run: Path | None = None,
        damping: float | str | None = None,
    ) -> Attribution:
        """Hits of a gradient method.

        task: whether the queries themselves are the task of the mix.  run: a variant to trace in, instead
        of the run itself.  damping: another damping than the run's.
        """
        name = method + (f" mix {mix}" if task else "")
        name += (f" in {run.name}" if run else "") + (f" damping {damping}" if damping is not None else "")

        def trace() -> Attribution:
            tracer = self._variant_tracer(run) if run else self.tracer
            tracer = tracer if damping is None else tracer.redamped(damping)
            k = min(RETRIEVED, len(self.index))
            return tracer.trace(self.queries, method, k, self.queries if task else None, mix)

        return self.hits(name, trace)

    def _variant_tracer(self, run: Path) -> Tracer:
        """A variant opened; only the last one is kept, for their factors are large."""
        if self._opened is None or self._opened[0] != run:
            self._opened = (run, Tracer(run, self.device))
        return self._opened[1]

    def variants(self, changes: Sequence[dict[str, Any]]) -> list[Path]:
        """Folders of runs over the same rows with a changed spec; those not there are built in one pass."""
        spec = FeatureSpec.from_dict(self.index.spec)
        folders = [self.run / "variants" / _file_name(str(change)) for change in changes]
        missing = {
            folder: replace(spec, **change)
            for folder, change in zip(folders, changes, strict=True)
            if not (folder / "done.json").is_file()
        }
        if missing:
            build_indexes(self.corpus, missing, self.device, self.progress)
        return folders

    def judged(self, name: str, hits: Attribution) -> Judged:
        """Retrieval metrics of hits."""
        return evaluate(hits, self.gold, name)

    def scores(self, methods: Mapping[str, Attribution]) -> dict[str, Scores]:
        """Retrieval over the facts that are reported on and tail-patch of each method."""
        effects, reported, found = self.patched(methods), self.ids(reported=True), {}
        for name, hits in methods.items():
            of = self.judged(name, hits).estimates(reported)
            found[name] = Scores(of["MRR"], of["Recall@10"], estimate(list(effects[name].values())))
        return found

    @cached_property
    def patch_ids(self) -> list[str]:
        """Queries that tail-patch is measured on: spread over the relations that are reported on."""
        return self.spread(self.ids(reported=True), self.patch_queries)

    def spread(self, ids: Sequence[str], wanted: int) -> list[str]:
        """``wanted`` of the ids, by turns from each relation, each relation's in random order."""
        draw, by_relation = random.Random(self.seed), dict[str, list[str]]()
        for id in ids:
            by_relation.setdefault(self.gold.facts[id].relation, []).append(id)
        for members in by_relation.values():
            draw.shuffle(members)
        turns = (m[n] for n in range(len(ids)) for m in by_relation.values() if n < len(m))
        return [id for _, id in zip(range(wanted), turns, strict=False)]

    def cut(self, hits: Attribution) -> list[Hit]:
        """The hits of the tail-patch's queries, with the proponents that it takes steps on."""
        wanted = set(self.patch_ids)
        return [replace(h, proponents=h.proponents[:PATCHED]) for h in hits if h.query.id in wanted]

    def control(self) -> Attribution:
        """Passages drawn by chance, beside which every tail-patch is read."""
        k = min(RETRIEVED, len(self.index))
        return self.hits("random", lambda: random_passages(self.corpus, self.queries, k, self.seed))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: no such file of facts")
    return path


def _hashed(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")
