"""What compact codes lose: retrieval, tail-patch and the full run's own ranking, by bytes a passage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from proponent.attribute.attribution import Attribution
from proponent.attribute.method import Method, method_for
from proponent.build.compact import compact
from proponent.evaluate.evaluation import Judged
from proponent.evaluate.experiments.closed_set import ClosedSet
from proponent.evaluate.experiments.figures import Figure
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.metrics import Estimate, estimate, paired_difference
from proponent.evaluate.text import points
from proponent.index.codec import CODE_BYTES
from proponent.index.run import Index

SIZES = tuple(2**power for power in range(10, 15))  # bytes a passage
AMONG = (10, 30, 100, 300, 1000)  # first passages by codes
FIRST = 10
Line = list[tuple[float, Estimate]]


def codes(study: ClosedSet) -> Table:
    """Retrieval, tail-patch and agreement with the full run, with the task mix and without."""
    method, runs = method_for(Index(study.given.run).spec), _runs(study)
    reported, rows, lines = study.ids(reported=True), [], dict[str, Line]()
    for task, name in ((False, "no task"), (True, "task mix")):
        hits = {f"{size:,}": study.traced(method, task=task, run=run) for size, run in runs.items()}
        judged = {size: study.judged(size, found) for size, found in hits.items()}
        patched = study.patched(hits)
        full = next(iter(hits))
        for size, verdict in judged.items():
            of, patch = verdict.estimates(reported), estimate(list(patched[size].values()))
            lines.setdefault(name, []).append((float(size.replace(",", "")), of["MRR"]))
            minus, same = _minus(verdict, judged[full], reported), _same(hits[size], hits[full], reported)
            rows.append((f"{name}, {size}", str(of["MRR"]), minus, str(of["Recall@10"]), points(patch), same))
    shares = _shares(study, runs, method)
    columns = ("bytes a passage", "MRR", "minus full", "Recall@10", "tail-patch", "same first 10")
    figures = {
        "mrr": Figure("MRR against bytes a passage", "bytes a passage", "MRR", lines, log=True),
        "among": Figure("The full run's first 10 by codes", "first N by codes", "share", shares, log=True),
    }
    return Table("Compact codes", columns, tuple(rows), tuple(_notes(study, method, shares)), figures)


def _notes(study: ClosedSet, method: str, shares: Mapping[str, Line]) -> Iterator[str]:
    reported, dim = study.ids(reported=True), Index(study.given.run).dim
    yield (
        f"Method {method}; the first row of each is the full run, d = {dim:,}. {len(reported)} facts of "
        f"{study.relations(reported)} relations, tail-patch of the first 10 over {len(study.patch_ids)} of "
        "them. Same first 10: how many of the full run's are in the codes' as well, as a share."
    )
    found = "; ".join(
        f"{size} bytes {', '.join(f'{e.mean:.3f}' for _, e in row)}" for size, row in shares.items()
    )
    among = ", ".join(map(str, AMONG))
    yield f"Share of the full run's first 10 that are among the first {among} by codes, no task: {found}."


def _runs(study: ClosedSet) -> dict[int, Path]:
    """The run and compact runs of it, by bytes a passage, the largest first; what is missing is made."""
    full = study.given.run
    folders = {size: full / "variants" / f"compact-{size}" for size in reversed(SIZES)}
    for size, folder in folders.items():
        compact(full, folder, size, study.given.progress)
    return {CODE_BYTES * Index(full).dim: full, **folders}


def _minus(ours: Judged, full: Judged, ids: list[str]) -> str:
    mine, theirs = ([verdict.values["MRR"][id] for id in ids] for verdict in (ours, full))
    found = paired_difference(mine, theirs)
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _same(ours: Attribution, full: Attribution, ids: list[str]) -> str:
    first = [{h.query.id: {p.id for p in h.proponents[:FIRST]} for h in hits} for hits in (ours, full)]
    return str(estimate([len(first[0][id] & first[1][id]) / FIRST for id in ids]))


def _shares(study: ClosedSet, runs: Mapping[int, Path], method: str) -> dict[str, Line]:
    """Share of the full run's first 10 that are among the first N by codes, for the tail-patch's queries."""
    asked, full, found = list(study.queries.subset(study.patch_ids)), study.given.run, dict[str, Line]()
    for size, run in runs.items():
        tracer = study.opened(run)
        scan = tracer.scan(tracer.features(asked), Method.of(method))
        scores = torch.cat([scan.scores(shard) for shard in tracer.index.shards()], 1)
        order = scores.sort(dim=1, descending=True, stable=True).indices
        if run == full:
            first = order[:, :FIRST]
            continue
        places = order.argsort(1).gather(1, first)
        line = [(float(n), estimate((places < n).float().mean(1).tolist())) for n in AMONG]
        found[f"{size:,}"] = line
    return found
