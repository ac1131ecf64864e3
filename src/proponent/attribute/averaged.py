"""Scores averaged over runs of the same passages: of several checkpoints of one training, say.

Gradients of one checkpoint tell what a step from there would do; their average over checkpoints that the
training went through tells more of what it did (TracIn; Pruthi et al., 2020).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from proponent.attribute.attribution import AVERAGED, Attribution
from proponent.attribute.exact import exact_scores
from proponent.attribute.method import Method, corrected_by
from proponent.attribute.questions import Task, check_ranking
from proponent.attribute.unprojected import check_unprojected
from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.gradients.loading import require_files
from proponent.index.run import Index, RunName
from proponent.index.search import Found, Scan, best, keep_best, scored
from proponent.progress import Advance, Progress

if TYPE_CHECKING:
    from proponent.attribute.tracing import Tracer

Scored = tuple[Tensor, Tensor]  # scores [q, n] and positions [n]


def runs_of(given: object) -> list[RunName]:
    """The runs that are given as one name or several; InputError for what is none."""
    if isinstance(given, str | os.PathLike):
        return [given]
    found = list[RunName]()
    for name in given if isinstance(given, Iterable) else [given]:
        if not isinstance(name, str | os.PathLike):
            raise InputError(f"averaged_with holds {name!r}; give paths or URLs of runs")
        found.append(name)
    return found


def check_averaged(index: Index, others: Sequence[RunName], method: Method, k: int) -> None:
    """Raise InputError for runs whose scores are not of the same rows, do not compare, or cannot be had.

    Each model is looked for, since it is loaded only after all work on the runs before it.
    """
    if index.damping is not None:
        raise InputError("another damping is of one run; leave it out, or the other runs")
    seen = [_made_of(index)]
    for other in map(Index, others):
        name, of = other.folder.name, index.folder.name
        if _made_of(other) in seen:
            raise InputError(f"{name}: is averaged twice; name every run once")
        seen.append(_made_of(other))
        if _rows_of(other) != _rows_of(index):
            raise InputError(
                f"{name}: its rows are not those of {of}; average runs of one corpus, whose models have one "
                "tokenizer, with the same --max-length and the same passages left out"
            )
        if _features_of(other) != _features_of(index):
            raise InputError(
                f"{name}: its features do not compare with those of {of}; average runs with the same "
                "--second-moment and --output-function"
            )
        check_ranking(other, method, k)
        if not method.projected:
            check_unprojected(other, method)
        try:
            require_files(other.spec["model"])
        except InputError as error:
            raise InputError(f"{name}: {error}") from error


def _made_of(index: Index) -> tuple[object, ...]:
    """What tells a run from others: a copy is the same."""
    spec = {name: value for name, value in index.spec.items() if name != "model"}
    return index.manifest["model"], spec, _rows_of(index)


def _rows_of(index: Index) -> tuple[object, ...]:
    """What decides which rows a run has, and in what order."""
    manifest, summary = index.manifest, index.summary
    length = index.spec["max_length"]
    return manifest["corpus"], manifest["tokenizer"], length, summary["rows"], summary["skipped"]


def _features_of(index: Index) -> tuple[object, ...]:
    """What scores must have in common to be averaged."""
    return corrected_by(index.spec), index.spec["output"]


def averaged_attribution(
    first: Tracer,
    others: Sequence[RunName],
    parts: Sequence[Sequence[Query]],
    method: Method,
    k: int,
    task: Task | None,
    progress: Progress,
) -> list[Attribution]:
    """The k highest and lowest of the mean of what several runs give each row; passages are the first run's.

    others: used one after the other, so one model is held beside the first.  parts: of the queries, each
    searched by itself.  task: with the first run's mix, whose λ is that of all.
    """
    names = [first.index.folder.name]
    asked = [_asked(first, parts, method, task, progress)]
    for run in others:
        other = first.beside(run)
        names.append(other.index.folder.name)
        own = task and Task(task.queries, other.task_mix(task.queries, task.mix.mix, method.output))
        asked.append(_asked(other, parts, method, own, progress))
        del other, own
    made = []
    for number, queries in enumerate(parts):
        found = _searched([one[number] for one in asked], len(first.index), k, progress)
        shown = first.attribution(queries, found, method, task and task.mix)
        made.append(replace(shown, settings={**shown.settings, AVERAGED: names[1:]}))
    return made


# A part's scan with the run that it is of, or its scores [q, n] without projection.
Asked = tuple[RunName, Scan] | Tensor


def _asked(
    tracer: Tracer,
    parts: Sequence[Sequence[Query]],
    method: Method,
    task: Task | None,
    progress: Progress,
) -> list[Asked]:
    """What is needed of a run for each part, without its model and its whitening."""
    made = list[Asked]()
    for queries in parts:
        if method.projected:
            scan = tracer.scan(tracer.features(queries, method.output), method, task and task.mix)
            made.append((tracer.index.folder.name, copy(scan)))  # which lets go of the whitening
        else:
            rows = range(len(tracer.index))
            made.append(exact_scores(tracer, queries, method, rows, progress, task).float())
    return made


def _searched(asked: Sequence[Asked], rows: int, k: int, progress: Progress) -> Found:
    exact = [one for one in asked if isinstance(one, Tensor)]
    if exact:
        return best(torch.stack(exact).mean(0), k)
    scans = [(Index(one[0]), one[1]) for one in asked if not isinstance(one, Tensor)]
    with progress.stage("searching", rows, "rows") as advance:
        return averaged_search(scans, k, advance)


def averaged_search(scans: Sequence[tuple[Index, Scan]], k: int, advance: Advance) -> Found:
    """The k highest and lowest means of what each run's scan gives its rows, in one pass over all runs.

    All are read from their files, wherever the first is held: a run's parts have to come in the order of the
    rows, beside those of the others, and one pass reads a file as often as holding it would.
    """
    streams = [scored(index.shards(), scan) for index, scan in scans]

    def means() -> Iterator[Scored]:
        for scores, positions in aligned(streams):
            yield torch.stack(scores).mean(0), positions
            advance(len(positions))

    return keep_best(means(), len(scans[0][1]), k)


def aligned(streams: Iterable[Iterator[Scored]]) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Scores of rows from several streams, each of which cuts the same rows into parts of its own."""
    sources = list(streams)
    held = [next(source, None) for source in sources]
    while parts := [part for part in held if part is not None]:
        count = min(len(positions) for _, positions in parts)
        yield [scores[:, :count] for scores, _ in parts], parts[0][1][:count]
        left = [(scores[:, count:], positions[count:]) for scores, positions in parts]
        held = [one if len(one[1]) else next(source, None) for one, source in zip(left, sources, strict=True)]
