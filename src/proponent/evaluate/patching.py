"""Tail-patch of a trace's proponents, beside as many passages drawn by chance."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from proponent.attribute.attribution import Attribution, Hit
from proponent.attribute.baselines import random_passages
from proponent.attribute.tail_patch import PatchStep, TailPatcher
from proponent.attribute.tracing import Tracer
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example
from proponent.errors import InputError
from proponent.evaluate.experiments.effects import Effects
from proponent.evaluate.metrics import Estimate, estimate
from proponent.evaluate.text import aligned, points
from proponent.index.run import Index, Passage
from proponent.progress import Progress, Silent

TOP = (1, 3, 5, 10)


@dataclass(frozen=True)
class Patched:
    """What one optimizer step on a passage does to the probability of a query's target.

    queries: how many.  step: the optimizer step.  hits, random: by k, the mean change over the first k
    proponents, and over k random passages, in percentage points.
    """

    queries: int
    step: PatchStep
    hits: Mapping[int, Estimate]
    random: Mapping[int, Estimate]

    def __str__(self) -> str:
        rows = [(f"top {k}", points(found), points(self.random[k])) for k, found in self.hits.items()]
        rate = f"learning rate {self.step.learning_rate:g}{' relative' if self.step.relative else ''}"
        title = f"change of the target's probability in percentage points, {self.queries} queries, {rate}"
        return f"{title}\n{aligned([('', 'hits', 'random'), *rows])}"

    def plain(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return {
            "queries": self.queries,
            "learning_rate": self.step.learning_rate,
            "relative": self.step.relative,
            "hits": {f"top {k}": asdict(found) for k, found in self.hits.items()},
            "random": {f"top {k}": asdict(found) for k, found in self.random.items()},
        }


def tail_patch(
    hits: Attribution,
    run: Index | str | os.PathLike[str] | None = None,
    *,
    learning_rate: float | None = None,
    limit: int | None = None,
    output: str | os.PathLike[str] | None = None,
    device: str | None = None,
    seed: int = 0,
    name: str = "hits",
    progress: Progress | None = None,
) -> Patched:
    """Take one step on each of the first 10 proponents, and on as many random passages of the run.

    run: the run that the proponents are of; None: the one that the hits name.
    learning_rate: None takes pretraining's over its batch size, or 0.001 relative.
    limit: only the first so many queries.  seed: of the random passages.  name: of the hits, for messages.
    output: a JSONL file that keeps every effect as it is measured, so that the same call goes on with it.
    Raises InputError for numbers out of range, a run without second moments, proponents that are not of
    the run, and an output that holds something else.
    """
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} queries leaves none; give 1 or more")
    index = run_of(hits, run, name)
    step = PatchStep.for_model(index.spec["model"], learning_rate)
    rows, first = list(index.rows()), hits.hits[:limit]
    _refuse_foreign(first, index, rows, name)
    most = min(TOP[-1], len(rows), *(len(hit.proponents) for hit in first))
    ours = [replace(hit, proponents=hit.proponents[:most]) for hit in first]
    corpus = Corpus.of([Example(row.id, row.text, "the run") for row in rows])
    control = random_passages(corpus, [hit.query for hit in first], most, seed).hits
    kind = "relative" if step.relative else "absolute"
    made_with = f"{step.learning_rate:.6g} {kind}, {index.folder.kept.everywhere}"
    with TemporaryDirectory() as scratch:
        effects = Effects.open(Path(output or Path(scratch) / "effects.jsonl"), made_with)
        t = Tracer(index, device)
        patcher = TailPatcher(t.model, t.plan.matrices, t.moments, step, t.spec.batch_tokens)
        effects.measure(patcher, [*ours, *control], t.spec.max_length, progress or Silent())
    return Patched(len(ours), step, _means(effects, ours, most), _means(effects, control, most))


def _means(effects: Effects, hits: Sequence[Hit], most: int) -> dict[int, Estimate]:
    return {k: estimate(list(effects.of(hits, k).values())) for k in TOP if k <= most}


def run_of(hits: Attribution, run: Index | str | os.PathLike[str] | None, name: str) -> Index:
    """The run that is given, or the one that the hits name; InputError where they name none."""
    if run is None and not (run := hits.settings.get("run")):
        raise InputError(f"{name}: says of no run that it is from; name one with --run")
    return run if isinstance(run, Index) else Index(run)


def _refuse_foreign(hits: Iterable[Hit], index: Index, rows: Iterable[Passage], name: str) -> None:
    """Refuse a run without second moments, and proponents that are not of it, by their id or source."""
    if index.spec["second_moment"] == "none":
        raise InputError(f"{index.folder.name}: tail-patch needs second moments; name another --run")
    known = {id for row in rows for id in (row.id, row.source)}
    for hit in hits:
        for passage in hit.proponents:
            if passage.id not in known and passage.source not in known:
                raise InputError(
                    f"{name}: passage '{passage.id}', a proponent of query '{hit.query.id}', is not in "
                    f"{index.folder.name}; name the run of these passages with --run"
                )
