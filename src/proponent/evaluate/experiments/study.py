"""A study: a finished run and queries, with everything that experiments share, cached on disk.

Nothing is computed twice: hits of a method are a result file, effects of a step are a line each,
variants of the run are runs of their own.  So every experiment resumes where it stopped.  What was made of a
variant is made again once another took its place; another run in place of the study's own is refused.
"""

from __future__ import annotations

import hashlib
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from proponent.attribute.attribution import Attribution, Hit
from proponent.attribute.baselines import baseline
from proponent.attribute.method import corrected_by
from proponent.attribute.probability import target_probabilities
from proponent.attribute.tail_patch import PatchStep, TailPatcher
from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_indexes
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example
from proponent.corpus.queries import Queries
from proponent.errors import InputError
from proponent.evaluate.experiments.effects import Effects
from proponent.evaluate.experiments.given import Given
from proponent.evaluate.experiments.keeping import Kept, file_name, require_made_with, require_variant
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index, RunName

T = TypeVar("T")
RETRIEVED = 100
PATCHED = 10
IMPROBABLE = 1e-280
# What TrackStar needs of a run whose features are white, and the most coordinates of its R_train.
PAPER = {"second_moment": "sample", "hessian": "train", "moment_sample": 0}
PAPER_DIM = 2**16
TRACKSTAR, BM25, RANDOM = "TrackStar", "BM25", "random"


@dataclass
class Study(ABC):
    """One run and some queries under examination.

    given: what the experiment was asked to look at.  Raises InputError for what is no finished run, and where
    the folder's experiments were made with something else.
    """

    given: Given
    name: ClassVar[str]  # of its folder beside those of other experiments; empty for that of all
    _opened: tuple[Path, Tracer] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        Index(self.given.run)  # before anything is written: is it a run?
        made_with, record = self.made_with(), self.folder / "study.json"
        if not record.is_file():
            _ = self.queries  # before anything is written: do they fit the run?
        require_made_with(record, made_with, self.given.run)

    @abstractmethod
    def made_with(self) -> dict[str, Any]:
        """What its files depend on besides the run, as plain values."""

    @property
    @abstractmethod
    def queries(self) -> Queries:
        """The queries; InputError where none fits the run."""

    @abstractmethod
    def group(self, query_id: str) -> str:
        """The group of a query, of which samples take as many as of any other."""

    @property
    def patchable(self) -> list[str]:
        """Ids of the queries that tail-patch may sample."""
        return [query.id for query in self.queries]

    @cached_property
    def run(self) -> Path:
        """Folder of the run; of one that TrackStar cannot search, of what the paper makes of its passages.

        That is built when it is first needed.
        """
        given = Index(self.given.run)
        if corrected_by(given.spec) != "white":
            return self.given.run
        paper = {**PAPER, "dim": min(given.spec["dim"], PAPER_DIM)}
        return self._made_like(given, _joined(given), [paper])[0]

    @property
    def home(self) -> Path:
        """Where the tables of all experiments are, a folder each."""
        return self.given.run / "experiments"

    @property
    def folder(self) -> Path:
        """Where hits and effects are kept."""
        return self.home / self.name

    @cached_property
    def index(self) -> Index:
        """The run."""
        return Index(self.run)

    @property
    def k(self) -> int:
        """How many passages are retrieved for a query."""
        return min(RETRIEVED, len(self.index))

    @cached_property
    def corpus(self) -> Corpus:
        """The run's rows as a corpus."""
        return Corpus.of([Example(row.id, row.text, "the run") for row in self.index.rows()])

    @cached_property
    def passages(self) -> Corpus:
        """The run's passages as a corpus, those that were cut joined again, for another run to cut."""
        return _joined(self.index)

    @cached_property
    def tracer(self) -> Tracer:
        """The run with its model."""
        return Tracer(self.index, self.given.device)

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
        path = self.folder / f"effects-{step.learning_rate:.6g}-{kind}.jsonl"
        self.keeps(path)  # or it is gone: V, which the step goes by, was another run's
        effects = Effects.open(path)
        t = self.tracer
        patcher = TailPatcher(t.model, t.plan.matrices, t.moments, step, t.spec.batch_tokens)
        effects.measure(patcher, hits, t.spec.max_length, self.given.progress)
        return effects

    @cached_property
    def probabilities(self) -> dict[str, float]:
        """p(target) of the queries that tail-patch is measured on, by id."""
        asked, t = self.queries.subset(self.patch_ids), self.tracer
        encoded = [t.model.encoder.query(query, t.spec.max_length) for query in asked]
        found = target_probabilities(t.model, encoded, t.spec.batch_tokens)
        return {query.id: p for query, p in zip(asked, found, strict=True)}

    def nats(self, effects: Mapping[str, float]) -> dict[str, float]:
        """Change of log p(target) by mean effects, in nats, by query id.

        effects: in percentage points, which say nothing where p is 1e-9.  A target that is too improbable
        for a logarithm is left out.
        """
        known = {id: self.probabilities[id] for id in effects if self.probabilities[id] > IMPROBABLE}
        return {id: math.log(max(p + effects[id] / 100, IMPROBABLE) / p) for id, p in known.items()}

    def keeps(self, path: Path, runs: Sequence[Path] = ()) -> bool:
        """Whether a file of the folder is there and of these runs, by itself the study's; see ``Kept``."""
        return Kept(self.folder).holds(path, runs or [self.run])

    def hits(self, name: str, make: Callable[[], Attribution], runs: Sequence[Path] = ()) -> Attribution:
        """The hits called ``name``, from their result file or made and written to it.

        runs: that they are of, as of ``keeps``.
        """
        path = self.folder / "hits" / f"{file_name(name)}.jsonl"
        if not self.keeps(path, runs):
            self.given.progress.say(f"hits: {name}")
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
            tracer = self.opened(run) if run else self.tracer
            tracer = tracer if damping is None else tracer.redamped(damping)
            return tracer.trace(self.queries, method, self.k, self.queries if task else None, mix)

        return self.hits(name, trace, [run] if run else [])

    def opened(self, run: Path) -> Tracer:
        """A variant opened; only the last one is kept, for their factors are large."""
        if self._opened is None or self._opened[0] != run:
            self._opened = (run, Tracer(run, self.given.device))
        return self._opened[1]

    def variants(self, changes: Sequence[dict[str, Any]]) -> list[Path]:
        """Folders of runs of the same passages with a changed spec; those not there are built in one pass.

        Raises InputError for one that is there with another spec or other passages.
        """
        return self._made_like(self.index, self.passages, changes)

    def _made_like(self, index: Index, passages: Corpus, changes: Sequence[dict[str, Any]]) -> list[Path]:
        spec = replace(FeatureSpec.from_dict(index.spec), size=0)
        folders = [self.given.run / "variants" / file_name(str(change)) for change in changes]
        missing: dict[RunName, FeatureSpec] = {}
        for folder, change in zip(folders, changes, strict=True):
            changed = replace(spec, **change)
            if (folder / "done.json").is_file():
                require_variant(folder, changed, passages, self.given.run)
            else:
                missing[folder] = changed
        if missing:
            build_indexes(passages, missing, self.given.device, self.given.progress)
        return folders

    @cached_property
    def patch_ids(self) -> list[str]:
        """Queries that tail-patch is measured on, spread over the groups."""
        return self.spread(self.patchable, self.given.patch_queries)

    def spread(self, ids: Sequence[str], wanted: int) -> list[str]:
        """``wanted`` of the ids, by turns from each group, each group's in random order."""
        return spread(ids, self.group, wanted, self.given.seed)

    def cut(self, hits: Attribution) -> list[Hit]:
        """The hits of the tail-patch's queries, with the proponents that it takes steps on."""
        wanted = set(self.patch_ids)
        return [replace(h, proponents=h.proponents[:PATCHED]) for h in hits if h.query.id in wanted]

    def baseline(self, kind: str) -> Attribution:
        """Hits of a baseline; those of ``random`` are the control beside which every tail-patch is read."""
        return self.hits(kind, lambda: self.retrieved(kind, self.queries, self.k))

    def retrieved(self, kind: str, queries: Queries, k: int) -> Attribution:
        """What a baseline retrieves from the run's rows, each with the passage that it is of."""
        found = baseline(kind, self.corpus, queries, k, seed=self.given.seed)
        sources = {row.id: row.source for row in self.index.rows()}
        hits = (
            replace(hit, proponents=tuple(replace(p, source=sources[p.id]) for p in hit.proponents))
            for hit in found
        )
        return Attribution(tuple(hits), found.settings)


def _joined(index: Index) -> Corpus:
    by_source = groupby(index.rows(), key=lambda row: row.source)
    joined = ((source, "".join(row.text for row in rows)) for source, rows in by_source)
    return Corpus.of([Example(source, text, "the run") for source, text in joined])


def spread(items: Sequence[T], group: Callable[[T], str], wanted: int, seed: int) -> list[T]:
    """``wanted`` of the items, by turns from each group, each group's in random order."""
    draw, by_group = random.Random(seed), dict[str, list[T]]()
    for item in items:
        by_group.setdefault(group(item), []).append(item)
    for members in by_group.values():
        draw.shuffle(members)
    turns = (m[n] for n in range(len(items)) for m in by_group.values() if n < len(m))
    return [item for _, item in zip(range(wanted), turns, strict=False)]


def every_other(names: Iterable[str]) -> list[str]:
    """Every other one of the names, in an order fixed by hashing."""
    return sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).hexdigest())[::2]
