"""Beyond facts: any prompts and targets, with R_train alone, as in the paper's appendix A.5.

There is no gold here.  What can be measured is how far a step on the passages found moves the target, and
how many of them text search finds as well; what they are, a reader has to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from rich.console import Console

from proponent.attribute.attribution import Attribution, Hit
from proponent.attribute.table import print_hit
from proponent.corpus.queries import Queries
from proponent.errors import InputError
from proponent.evaluate.experiments.figures import Figure
from proponent.evaluate.experiments.study import BM25, PATCHED, RANDOM, RETRIEVED, TRACKSTAR, Study
from proponent.evaluate.experiments.tables import Table, as_csv
from proponent.evaluate.metrics import Estimate, estimate, mean, paired_difference
from proponent.evaluate.text import points
from proponent.files import checksum, written_whole

TOP = (1, 3, 5, 10)
# Of the examples: queries a task, passages of each side, characters of a passage, columns of a line.
QUERIES, PASSAGES, LONGEST, WIDTH = 4, 3, 400, 110


@dataclass
class Tasks(Study):
    """The queries of all files; each file is a task, called by its name."""

    name: ClassVar[str] = "tasks"

    def made_with(self) -> dict[str, Any]:
        """The files of queries, the seed and how many passages are retrieved."""
        queries = {task: checksum(path) for task, path in self.files.items()}
        return {"queries": queries, "seed": self.given.seed, "retrieved": RETRIEVED}

    @cached_property
    def files(self) -> dict[str, Path]:
        """The file of each task; InputError for one that is missing and for two of one name."""
        found: dict[str, Path] = {}
        for path in self.given.queries:
            if not path.is_file():
                raise InputError(f"{path}: no such file of queries")
            task = path.name.partition(".")[0]
            if task in found:
                raise InputError(f"{path}: has the name of {found[task]}; a task is called by its file's")
            found[task] = path
        return found

    @cached_property
    def queries(self) -> Queries:
        """The queries of all tasks, each id behind its task's name."""
        read = ((task, Queries.read(path)) for task, path in self.files.items())
        return Queries(tuple(replace(q, id=f"{task}/{q.id}") for task, queries in read for q in queries))

    def group(self, query_id: str) -> str:
        """The task of a query."""
        return query_id.partition("/")[0]


def tasks(study: Tasks) -> Table:
    """Tail-patch of each task by method, and what TrackStar and BM25 have in common; writes examples."""
    hits = {
        RANDOM: study.baseline("random"),
        BM25: study.baseline("bm25"),
        "gradient cosine, V": study.traced("cosine"),
        TRACKSTAR: study.traced("trackstar"),
    }
    measured = {top: study.patched(hits, k=top) for top in TOP}
    rows = [row for task in study.files for row in _rows(study, task, hits, measured[PATCHED])]
    figures = {task: _figure(study, task, measured) for task in study.files}
    _write_examples(study, hits)
    notes = (
        "TrackStar with R_train alone. Tail-patch of the top 10, in percentage points, and the same as the "
        "change of log p(target), in nats, which also shows what a step does to a long target; p is the "
        f"median over the queries of tail-patch, {len(study.patch_ids)} in all; 95% bootstrap intervals. "
        "Shared: of a query's first 10 proponents, the mean share that BM25 has among its first 10.",
    )
    columns = ("task", "method", "queries", "p", "tail-patch", "nats", "TrackStar minus it, nats", "shared")
    return Table("Tail-patch of tasks without gold", columns, tuple(rows), notes, figures)


def _rows(
    study: Tasks, task: str, hits: Mapping[str, Attribution], effects: Mapping[str, Mapping[str, float]]
) -> Iterator[tuple[str, ...]]:
    ids = [id for id in study.patch_ids if study.group(id) == task]
    likely = f"{median(study.probabilities[id] for id in ids):.2g}" if ids else "—"
    text, best = _first(study, task, hits[BM25]), _nats(study, task, effects[TRACKSTAR])
    for method, found in hits.items():
        first = _first(study, task, found)
        shared = mean([len(first[id] & text[id]) / max(1, len(first[id])) for id in first])
        nats = _nats(study, task, effects[method])
        yield (
            task,
            method,
            f"{len(first):,}",
            likely,
            points(estimate([effects[method][id] for id in ids])) if ids else "—",
            points(estimate(nats)) if nats else "—",
            points(paired_difference(best, nats)) if nats else "—",
            f"{shared:.2f}",
        )


def _nats(study: Tasks, task: str, effects: Mapping[str, float]) -> list[float]:
    """Change of log p(target) of the queries of a task."""
    return list(
        study.nats({id: effect for id, effect in effects.items() if study.group(id) == task}).values()
    )


def _first(study: Tasks, task: str, hits: Attribution) -> dict[str, set[str]]:
    """Ids of the first 10 proponents of each query of a task."""
    return {h.query.id: {p.id for p in h.proponents[:10]} for h in hits if study.group(h.query.id) == task}


def _figure(study: Tasks, task: str, measured: Mapping[int, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Change of log p(target) against the number of proponents, a line a method."""
    lines: dict[str, list[tuple[float, Estimate]]] = {}
    for k, by_method in measured.items():
        for method, effects in by_method.items():
            if values := _nats(study, task, effects):
                lines.setdefault(method, []).append((float(k), estimate(values)))
    return Figure(f"Tail-patch of the first k proponents: {task}", "k", "change of log p (nats)", lines)


def _write_examples(study: Tasks, hits: Mapping[str, Attribution]) -> None:
    """``examples.md`` and ``examples.csv``: the first passages of some queries of each task."""
    chosen = study.spread(study.patch_ids, QUERIES * len(study.files))
    found = {method: {h.query.id: h for h in hits[method]} for method in (TRACKSTAR, BM25)}
    shown = [(id, method, by_id[id]) for id in sorted(chosen) for method, by_id in found.items()]
    for form, text in (("md", _examples_page), ("csv", _examples_csv)):
        with written_whole(study.folder / f"examples.{form}") as aside:
            aside.write_text(text(study, shown), encoding="utf-8")


Shown = Sequence[tuple[str, str, Hit]]


def _examples_page(study: Tasks, shown: Shown) -> str:
    lines = ["# First passages of some queries", ""]
    for id, method, hit in shown:
        page = StringIO()
        few = Hit(hit.query, hit.proponents[:PASSAGES], hit.opponents[:PASSAGES])
        console = Console(file=page, width=WIDTH, color_system=None, force_jupyter=False)
        print_hit(console, few, longest=LONGEST)
        lines += [f"## {id}, {method}, p(target) = {study.probabilities[id]:.2g}", ""]
        lines += [f"    {line}".rstrip() for line in page.getvalue().strip("\n").splitlines()] + [""]
    return "\n".join(lines)


def _examples_csv(study: Tasks, shown: Shown) -> str:
    def rows() -> Iterator[tuple[Any, ...]]:
        for id, method, hit in shown:
            asked = (id, hit.query.prompt, hit.query.target, study.probabilities[id], method)
            for role, side in (("proponent", hit.proponents), ("opponent", hit.opponents)):
                for rank, passage in enumerate(side[:PASSAGES], start=1):
                    yield (*asked, role, rank, passage.score, passage.id, passage.text)

    columns = ("query", "prompt", "target", "p", "method", "role", "rank", "score", "passage", "text")
    return as_csv(columns, rows())
