"""What the best of a scan are worth once they are scored again exactly: runs of several sizes, several N.

    python benchmarks/two_stages.py FACTS FULL_RUN COMPACT_RUN [COMPACT_RUN ...] --task --hits FOLDER

For each run the MRR and Recall@10 of its own scan and of the same with the first N exact (``--exact-top N``),
and what that is above the full run's scan.  With --task the facts are the task too.  Exact scores of all
passages that are among the first N of any run are made in one pass, by the full run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import proponent as pp
from proponent.attribute.exact import exact_scores
from proponent.attribute.method import Method, method_for
from proponent.attribute.questions import Task
from proponent.attribute.tracing import Tracer
from proponent.evaluate.evaluation import Judged
from proponent.evaluate.metrics import paired_difference
from proponent.index.search import best
from proponent.progress import OnStderr

DEPTH = 100  # ranks that are looked at
ABOVE = 10.0  # what is scored again comes before what is not; scores of unit vectors are 1 at most


def main() -> None:
    """Print a line for each run and each N."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("facts", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--tops", type=int, nargs="+", default=[10, 30, 50, 100])
    parser.add_argument("--task", action="store_true")
    parser.add_argument("--hits", type=Path, help="a folder to write each line's hits to")
    given = parser.parse_args()
    queries, gold = pp.Queries.read(given.facts), pp.Gold.read(given.facts)
    tracers = {run: Tracer(run) for run in given.runs}
    full = tracers[given.runs[0]]
    method = Method.of(method_for(full.index.spec))
    scans = {run: scanned(tracer, queries, method, given.task) for run, tracer in tracers.items()}
    firsts = [scores.topk(max(given.tops), 1).indices.flatten() for scores in scans.values()]
    rows = torch.cat(firsts).unique().tolist()
    task = Task(queries, full.task_mix(queries, "auto", method.output)) if given.task else None
    exact = torch.full((len(queries), len(full.index)), -torch.inf, dtype=torch.float64)
    exact[:, rows] = exact_scores(full, queries, method, rows, OnStderr(), task)
    print("| run | first N exact | MRR | minus full | Recall@10 | minus full |\n| --- " + "| ---: " * 5 + "|")
    reference: Judged | None = None
    for run, top, scores in lines(scans, exact, given.tops):
        hits = full.attribution(queries, best(scores, min(DEPTH, scores.shape[1])), method)
        judged = pp.evaluate(hits, gold)
        reference = reference or judged
        cells = [cell for metric in ("MRR", "Recall@10") for cell in compared(judged, reference, metric)]
        print(f"| {Path(run).name} | {top or '—'} | " + " | ".join(cells) + " |", flush=True)
        if given.hits:
            hits.write(given.hits / f"{Path(run).name}-{top}.jsonl")


def scanned(tracer: Tracer, queries: pp.Queries, method: Method, task: bool) -> Tensor:
    """Scores [q, n] of a run's scan."""
    mix = tracer.task_mix(queries, "auto", method.output) if task else None
    scan = tracer.scan(tracer.features(queries, method.output), method, mix)
    return torch.cat([scan.scores(shard) for shard in tracer.index.shards()], 1).double()


def lines(scans: dict[str, Tensor], exact: Tensor, tops: list[int]) -> Iterator[tuple[str, int, Tensor]]:
    """Each run with 0 for its scan alone, then with every N, and scores [q, n] that order the passages."""
    for run, scores in scans.items():
        yield run, 0, scores
        for top in tops:
            first = scores.topk(top, 1).indices
            yield run, top, scores.scatter(1, first, exact.gather(1, first) + ABOVE)


def compared(judged: Judged, reference: Judged, metric: str) -> tuple[str, str]:
    """A metric's mean, and its paired difference from the reference's."""
    ours, theirs = judged.values[metric], reference.values[metric]
    difference = paired_difference(list(ours.values()), [theirs[id] for id in ours])
    low, high = difference.low, difference.high
    return str(judged.estimates()[metric]), f"{difference.mean:+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
