"""Evaluating result files: what the commands ``evaluate`` and ``tail-patch`` do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from proponent.attribute.attribution import Attribution, Hit
from proponent.attribute.baselines import random_passages
from proponent.attribute.tail_patch import PatchStep, TailPatcher
from proponent.attribute.tracing import Tracer
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example
from proponent.corpus.queries import Queries
from proponent.errors import InputError
from proponent.evaluate.correctness import predict
from proponent.evaluate.evaluation import Judged, evaluate
from proponent.evaluate.experiments.effects import Effects
from proponent.evaluate.gold import Gold
from proponent.evaluate.metrics import estimate
from proponent.index.run import Index, Passage
from proponent.progress import Progress

TOP = (1, 3, 5, 10)


def evaluate_files(
    paths: Sequence[Path],
    facts: Path,
    sentences: Path | None,
    split: str,
    run: Path | None,
    device: str | None,
    progress: Progress,
) -> list[Judged]:
    """Judge result files, named by their paths, against gold facts.

    split: groups that queries are told apart by, ``relation`` or ``correct``; the latter asks the model
    of ``run``, or of the run that the first file names.  Raises InputError for files that do not fit.
    """
    if split not in ("relation", "correct"):
        raise InputError(f"split is '{split}'; choose relation or correct")
    gold = Gold.read(facts, sentences)
    read = {str(path): Attribution.read(path) for path in paths}
    group: Callable[[Hit], str] | None = None
    if split == "correct":
        first = next(iter(read.values()))
        tracer = Tracer(run or _run_of(first, paths[0]), device)
        full = {query.id: query for query in Queries.read(facts)}
        asked = [full[hit.query.id] for hit in gold.common(first, str(paths[0]))]
        with progress.stage("generating", len(asked), "queries") as advance:
            said = {}
            for prediction in predict(tracer.model, asked):
                said[prediction.query_id] = "right" if prediction.correct else "wrong"
                advance(1)
        group = lambda hit: said.get(hit.query.id, "not asked")  # noqa: E731
    return [evaluate(hits, gold, name, group) for name, hits in read.items()]


def patch_file(
    path: Path,
    run: Path | None,
    learning_rate: float | None,
    limit: int | None,
    output: Path | None,
    device: str | None,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Tail-patch of a result file's proponents and of as many random passages of the run.

    Returns the step and, for ``hits`` and ``random``, the mean change over the first 1, 3, 5 and 10
    proponents in percentage points with its interval.  Raises InputError where there is no run with
    second moments to take the step with, and where the run does not hold the proponents.
    """
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} queries leaves none; give 1 or more")
    hits = Attribution.read(path)
    hits = Attribution(hits.hits[:limit], hits.settings)
    index = Index(run or _run_of(hits, path))
    if index.spec["second_moment"] == "none":
        raise InputError(f"{index.folder.path}: tail-patch needs second moments; name another --run")
    rows = list(index.rows())
    _refuse_strangers(hits, path, index, rows)
    tracer = Tracer(index, device)
    step = PatchStep.for_model(tracer.spec.model, learning_rate)
    patcher = TailPatcher(tracer.model, tracer.plan.matrices, tracer.moments, step, tracer.spec.batch_tokens)
    corpus = Corpus.of([Example(row.id, row.text, "the run") for row in rows])
    most = min(TOP[-1], min(len(hit.proponents) for hit in hits))
    control = random_passages(corpus, [hit.query for hit in hits], min(most, len(rows)), seed)
    ours = [replace(hit, proponents=hit.proponents[:most]) for hit in hits]
    with TemporaryDirectory() as scratch:
        effects = Effects.open(output or Path(scratch) / "effects.jsonl")
        effects.measure(patcher, [*ours, *control.hits], tracer.spec.max_length, progress)
    return {
        "queries": len(ours),
        "learning_rate": step.learning_rate,
        "relative": step.relative,
        **{
            name: {f"top {k}": vars(estimate(list(effects.of(found, k).values()))) for k in TOP if k <= most}
            for name, found in (("hits", ours), ("random", list(control.hits)))
        },
    }


def _refuse_strangers(hits: Attribution, path: Path, index: Index, rows: Sequence[Passage]) -> None:
    """Refuse proponents that are not of the run, by the id of a row or of the passage it was cut from."""
    known = {id for row in rows for id in (row.id, row.source)}
    for hit in hits:
        for passage in hit.proponents:
            if passage.id not in known and passage.source not in known:
                raise InputError(
                    f"{path}: passage '{passage.id}', a proponent of query '{hit.query.id}', is not in "
                    f"{index.folder.path}; name the run of these passages with --run"
                )


def _run_of(hits: Attribution, path: Path) -> str:
    run = hits.settings.get("run")
    if not run:
        raise InputError(f"{path}: says of no run that it is from; name one with --run")
    return str(run)
