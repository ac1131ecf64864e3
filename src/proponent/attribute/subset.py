"""From a corpus the N passages that support a set of target queries most, with a guarantee."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from proponent.attribute.candidates import Candidates
from proponent.attribute.method import Method
from proponent.attribute.questions import QueriesLike, checked_questions
from proponent.attribute.selection import Chosen, SetFunction, Terms, choose, choose_by_samples
from proponent.attribute.tracing import Tracer
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example
from proponent.errors import InputError
from proponent.files import write_lines
from proponent.index.run import Index, RunName
from proponent.progress import Progress, Silent

FUNCTIONS = ("support", "log-det")
# A query's second-best support counts half of its best, the third a quarter.
DECAY = 0.5
CANDIDATES = 1000  # passages that one scan retrieves for a query, at least
# Candidates times queries: each takes 8 bytes while passages are chosen.
MOST_SCORES = 2**27
ROUNDING = 1e-12  # of sums of gains: a share that falls short of 1 by less is 1
MOST_COMPARED = 2000  # passages that log-det chooses from: their features and cosines are held in memory


@dataclass(frozen=True)
class Aim:
    """What to choose, and how.

    budget: passages at most.  function: ``support`` (each query counts its best supports, ``decay``) or
    ``log-det`` (features that differ, each scaled by its influence on all queries).  decay: weight of a
    query's next support, in [0, 1]; 0 counts the best alone, 1 all alike.  per_source: how many chunks of
    one passage at most.  epsilon: choose from random samples, in (0, 1).  seed: of these.
    """

    budget: int
    function: str = "support"
    decay: float = DECAY
    per_source: int | None = None
    epsilon: float | None = None
    seed: int = 0

    def check(self, rows: int) -> None:
        """Raise InputError for what cannot be asked of a run of so many rows."""
        if not 1 <= self.budget <= rows:
            raise InputError(f"the budget is {self.budget}; this run holds {rows} passages, give 1 to {rows}")
        if self.function not in FUNCTIONS:
            raise InputError(f"no function '{self.function}'; choose one of {', '.join(FUNCTIONS)}")
        if not 0 <= self.decay <= 1:
            raise InputError(f"the decay is {self.decay}; give 0 to 1")
        if self.per_source is not None and self.per_source < 1:
            raise InputError(f"passages a source are {self.per_source}; give 1 or more")
        if self.epsilon is not None and not 0 < self.epsilon < 1:
            raise InputError(f"epsilon is {self.epsilon}; give more than 0 and less than 1")
        if self.epsilon is not None and self.per_source is not None:
            raise InputError("no bound is known for samples with a limit a source; give only one of both")
        if self.function == "log-det" and self.budget > MOST_COMPARED:
            raise InputError(
                f"log-det chooses up to {MOST_COMPARED} passages; use 'support' for {self.budget}"
            )


@dataclass(frozen=True)
class Selected:
    """A passage of a subset.

    id, source, text: as of a ``Passage``.  adds: what it adds to the function of those before it.
    supports: ids of the queries that it supports best of all the subset.
    """

    id: str
    source: str
    text: str
    adds: float
    supports: tuple[str, ...]


@dataclass(frozen=True)
class Subset(Sequence[Selected]):
    """Passages in the order in which they were chosen.

    candidates: how many they were chosen from.  value: of the function.  share: of the best subset's value,
    at least.  lost: what choosing among candidates alone costs the guarantee at most, None where that is not
    known.  See ``Chosen``.  settings: how they were chosen.
    """

    passages: tuple[Selected, ...]
    candidates: int
    value: float
    share: float
    lost: float | None
    settings: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.passages)

    @overload
    def __getitem__(self, index: int) -> Selected: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Selected]: ...
    def __getitem__(self, index: int | slice) -> Selected | Sequence[Selected]:
        return self.passages[index]

    @property
    def summary(self) -> str:
        """How many were chosen, from how many, and how good the set is, in a sentence."""
        few = "" if len(self) == self.settings["budget"] else "; no other may be taken or adds anything"
        share = f"{math.floor(1000 * self.share * (1 + ROUNDING)) / 10:.1f}".removesuffix(".0")
        return (
            f"{len(self):,} passages chosen from {self.candidates:,}{few}; at least {share} % of what the "
            "best subset of the run reaches"
        )

    def corpus(self) -> Corpus:
        """The passages as a corpus, to train on or to index."""
        return Corpus.of([Example(passage.id, passage.text, "the subset") for passage in self])

    def __repr__(self) -> str:
        from proponent.attribute.table import subset_as_text

        return subset_as_text(self)

    def records(self) -> list[dict[str, Any]]:
        """One record a passage, which every reader of a corpus takes: id and text first."""
        return [
            {
                "id": passage.id,
                "text": passage.text,
                "source": passage.source,
                "rank": rank,
                "adds": passage.adds,
                "supports": list(passage.supports),
            }
            for rank, passage in enumerate(self, start=1)
        ]

    def write(self, path: str | Path) -> None:
        """Write the records as JSONL, whole or not at all: a corpus as it stands."""
        write_lines(Path(path), self.records())


def select(
    index: Index | RunName,
    queries: QueriesLike,
    aim: Aim | int,
    method: Method | str | None = None,
    task: QueriesLike | None = None,
    mix: float | str = "auto",
    device: str | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Subset:
    """The passages of a run that support the queries most: ``aim`` says how many, or how.

    method, task, mix: as of ``trace``, of the scores.  Candidates are each query's best max(1000, budget),
    by one scan.  Raises InputError for what cannot be asked, and as ``trace`` does.
    """
    opened, progress = index if isinstance(index, Index) else Index(index), progress or Silent()
    wanted = Aim(aim) if isinstance(aim, int) else aim
    wanted.check(len(opened))
    queries, method, task = checked_questions(opened, queries, method, 1, task, mix)
    if not method.projected:
        raise InputError(f"method '{method.name}' has no index of scores to choose from; use another")
    tracer = Tracer(opened, device, trust_remote_code)
    task_mix = tracer.task_mix(task, mix, method.output) if task else None
    found = Candidates.of(tracer, queries, method, task_mix, max(CANDIDATES, wanted.budget), progress)
    settings = {"method": method.name, "mix": task_mix.mix if task_mix else None}
    return selected(found, wanted, settings)


def selected(found: Candidates, aim: Aim, settings: Mapping[str, Any]) -> Subset:
    """The passages that an aim chooses among candidates.  settings: how these came by their scores."""
    most = MOST_COMPARED if aim.function == "log-det" else MOST_SCORES // len(found.asked)
    found = found.most_influential(max(aim.budget, most))
    chosen = _choose(found, aim)
    numbers = list(chosen.passages)
    supports: dict[int, list[str]] = {number: [] for number in numbers}
    if numbers:
        best = found.scores[:, numbers].max(1)
        for id, score, place in zip(found.asked, best.values.tolist(), best.indices.tolist(), strict=True):
            if score > 0:
                supports[numbers[place]].append(id)
    rows = found.positions[numbers].tolist()
    texts = found.index.passages(rows)
    passages = tuple(
        Selected(texts[row].id, texts[row].source, texts[row].text, adds, tuple(supports[number]))
        for row, number, adds in zip(rows, numbers, chosen.gains, strict=True)
    )
    settings = {**settings, **vars(aim)}
    return Subset(passages, len(found.positions), chosen.value, chosen.share, chosen.lost, settings)


def _choose(found: Candidates, aim: Aim) -> Chosen:
    """Choose what the aim asks for."""
    function: SetFunction
    if aim.function == "log-det":
        function, outside = found.log_determinant()
    else:
        function, outside = found.support(aim.decay)
    groups = found.sources() if aim.per_source else ()
    terms = Terms(aim.budget, groups, aim.per_source or 0, found.others, outside)
    if aim.epsilon is not None:
        return choose_by_samples(function, terms, aim.epsilon, aim.seed)
    return choose(function, terms)
