"""Metrics and tail-patches as tables, and the demo's closing page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from proponent.attribute.attribution import Hit
from proponent.attribute.table import print_hit

if TYPE_CHECKING:
    from proponent.demo.story import Demo
    from proponent.evaluate.evaluation import Judged
    from proponent.evaluate.metrics import Estimate


def print_judged(judged: Sequence[Judged]) -> None:
    """Estimates of each file, overall and by group, then what each gains on the first."""
    console = Console(highlight=False)
    for verdict in judged:
        rows = [("all", verdict.estimates()), *verdict.by_group()]
        _print_estimates(console, verdict.name, rows)
    for verdict in judged[1:]:
        rows = [("paired", verdict.minus(judged[0]))]
        _print_estimates(console, f"{verdict.name} minus {judged[0].name}", rows)


def _print_estimates(
    console: Console, title: str, rows: Sequence[tuple[str, Mapping[str, Estimate]]]
) -> None:
    """Rows of estimates with their intervals, under a title that may be longer than the table is wide."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for heading in ("n", *rows[0][1]):
        table.add_column(heading, justify="right")
    for group, estimates in rows:
        count = str(next(iter(estimates.values())).queries)
        cells = (f"{e.mean:.3f} [{e.low:.2f}, {e.high:.2f}]" for e in estimates.values())
        table.add_row(group, count, *cells, style="" if group in ("all", "paired") else "dim")
    console.print(title, style="bold", soft_wrap=True, markup=False)
    console.print(table)
    console.print()


def print_patch(found: Mapping[str, Any]) -> None:
    """Mean effects of hits and of random passages, in percentage points."""
    kind = " relative" if found["relative"] else ""
    title = (
        f"change of the target's probability in percentage points, {found['queries']} queries, "
        f"learning rate {found['learning_rate']:g}{kind}"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for heading in ("hits", "random"):
        table.add_column(heading, justify="right")
    for top, effects in found["hits"].items():
        both = (effects, found["random"][top])
        cells = (f"{e['mean']:+.2f} [{e['low']:+.2f}, {e['high']:+.2f}]" for e in both)
        table.add_row(top, *cells)
    console = Console(highlight=False)
    console.print(title, soft_wrap=True)
    console.print(table)


def print_demo(demo: Demo, passages: int = 3) -> None:
    """A dozen facts with their top passages, then how often each method's top passage states the fact."""
    console = Console(highlight=False)
    every = len(demo.probabilities)
    knows = f"{demo.known:,}" if demo.known else "none"
    these = f"{len(demo.shown)} of {'them' if demo.known else 'all'}"
    console.print(
        f"The model knows {knows} of the {every:,} facts (p(target) >= 0.5).  Here are {these}, spread over "
        "the relations.  ✓ gold: the sentence was written to state this fact."
    )
    for hit in demo.shown:
        few = Hit(hit.query, hit.proponents[:passages], hit.opponents[:1])
        print_hit(console, few, gold=True, probability=demo.probabilities[hit.query.id])
    console.print(
        f"\nDoes the top passage state the fact?  All {every:,} facts, and the {demo.known:,} known ones:",
        style="bold",
    )
    console.print(_retrieval_table(demo))
    console.print()
    console.print(
        "BM25 looks for the words of a fact, so it is strong where sentences repeat them. Influence asks "
        "which sentences moved the model, and those need not state the fact. The paper, too, found BM25 "
        "ahead at finding facts and TrackStar ahead at finding what moves the model."
    )
    console.print(f"\nλ of the task mix: {demo.mix:.3f} (automatic)")
    for name, place in (("corpus", "corpus"), ("model", "model"), ("run", "run"), ("results", "hits")):
        console.print(f"{name:<8} {demo.folder / place}", soft_wrap=True, markup=False)
    _print_next_steps(console, demo)


def _print_next_steps(console: Console, demo: Demo) -> None:
    results = [str(demo.folder / "hits" / f"{name}.jsonl") for name in ("trackstar-task-mix", "bm25")]
    look = ("view", *results, str(demo.answers))
    console.print(f"\nlook: proponent {shlex.join(look)}", soft_wrap=True, markup=False)
    ask = ("view", str(demo.folder / "run"), "--task", str(demo.folder / "corpus" / "facts.jsonl"))
    console.print(f"ask:  proponent {shlex.join(ask)}", soft_wrap=True, markup=False)
    query = demo.shown[0].query
    command = ("trace", str(demo.folder / "run"), "--prompt", query.prompt, "--target", query.target)
    console.print(f"next: proponent {shlex.join(command)}", soft_wrap=True, markup=False)


def _retrieval_table(demo: Demo) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("\nmethod")
    for group in ("all", "known"):
        for heading in (f"{group}\ntop 1", f"{group}\nMRR", f"{group}\nRecall@10"):
            table.add_column(heading, justify="right")
    for row in demo.retrieval:
        cells = ((f"{s.top:.1%}", f"{s.mrr:.3f}", f"{s.recall:.3f}") for s in (row.every, row.known))
        table.add_row(row.method, *(cell for group in cells for cell in group))
    return table
