"""Scores averaged over runs of the same passages: of several checkpoints of one training, say.

Gradients of one checkpoint tell what a step from there would do; their average over checkpoints that the
training went through tells more of what it did (TracIn; Pruthi et al., 2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from proponent.attribute.attribution import AVERAGED, Attribution
from proponent.attribute.exact import check_exact, exact_scores
from proponent.attribute.method import Method
from proponent.attribute.questions import check_ranking
from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.index.mix import TaskMix
from proponent.index.run import Index, RunName
from proponent.index.search import Found, Scan, best, in_lots, keep_best, over_shards
from proponent.progress import Advance, Progress

if TYPE_CHECKING:
    from proponent.attribute.tracing import Tracer

Scored = tuple[Tensor, Tensor]  # scores [q, n] and positions [n]


def check_averaged(index: Index, others: Sequence[RunName], method: Method, k: int) -> None:
    """Raise InputError for runs that are not of the same passages, or that the method cannot search."""
    seen = {index.folder.path.resolve()}
    for other in map(Index, others):
        name, place = other.folder.name, other.folder.path.resolve()
        if place in seen:
            raise InputError(f"{name}: is averaged twice; name every run once")
        seen.add(place)
        if _rows_of(other) != _rows_of(index):
            raise InputError(
                f"{name}: its rows are not those of {index.folder.name}; average runs of one corpus, whose "
                "models have one tokenizer, with the same --max-length"
            )
        check_ranking(other, method, k)
        if not method.projected:
            check_exact(other, method)


def _rows_of(index: Index) -> tuple[object, ...]:
    """What decides which rows a run has, and in what order."""
    manifest, summary = index.manifest, index.summary
    length = index.spec["max_length"]
    return manifest["corpus"], manifest["tokenizer"], length, summary["rows"], summary["skipped"]


def averaged_attribution(
    first: Tracer,
    others: Iterable[Tracer],
    queries: Sequence[Query],
    method: Method,
    k: int,
    task: tuple[Sequence[Query], TaskMix] | None,
    progress: Progress,
) -> Attribution:
    """The k highest and lowest of the mean of what several runs give each row; passages are the first run's.

    others: used one after the other, so one model is held beside the first.  task: its queries and the first
    run's mix of them, whose λ is that of all.
    """
    own = task[1] if task else None
    mixed = ((t, t.task_mix(task[0], task[1].mix, method.output) if task else None) for t in others)
    every = chain([(first, own)], mixed)
    names, scans, exact = list[str](), list[tuple[Index, Scan]](), list[Tensor]()
    for tracer, mix in every:
        names.append(tracer.index.folder.name)
        if method.projected:
            scan = tracer.scan(tracer.features(queries, method.output), method, mix)
            scans.append((tracer.index, copy(scan)))  # which lets go of the run's whitening
        else:
            exact.append(exact_scores(tracer, queries, method, range(len(tracer.index)), progress))
    if exact:
        found = best(torch.stack(exact).mean(0).float(), k)
    else:
        with progress.stage("searching", len(first.index), "rows") as advance:
            found = averaged_search(scans, k, advance)
    made = first.attribution(queries, found, method, own)
    return replace(made, settings={**made.settings, AVERAGED: names[1:]})


def averaged_search(scans: Sequence[tuple[Index, Scan]], k: int, advance: Advance) -> Found:
    """The k highest and lowest means of what each run's scan gives its rows, in one pass over all runs."""
    streams = [_scored(index, scan) for index, scan in scans]

    def means() -> Iterator[Scored]:
        for scores, positions in aligned(streams):
            yield torch.stack(scores).mean(0), positions
            advance(len(positions))

    return keep_best(means(), len(scans[0][1]), k)


def _scored(index: Index, scan: Scan) -> Iterator[Scored]:
    shards = in_lots(index.shards())
    return ((scores, shard.positions) for shard, scores in over_shards(scan.scores, shards))


def aligned(streams: Iterable[Iterator[Scored]]) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Scores of rows from several streams, each of which cuts the same rows into parts of its own."""
    sources = list(streams)
    held = [next(source, None) for source in sources]
    while parts := [part for part in held if part is not None]:
        count = min(len(positions) for _, positions in parts)
        yield [scores[:, :count] for scores, _ in parts], parts[0][1][:count]
        left = [(scores[:, count:], positions[count:]) for scores, positions in parts]
        held = [one if len(one[1]) else next(source, None) for one, source in zip(left, sources, strict=True)]
