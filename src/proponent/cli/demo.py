"""The demo's closing page."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from proponent.attribute.attribution import Hit
from proponent.attribute.table import print_hit
from proponent.cli.printing import printable

if TYPE_CHECKING:
    from proponent.demo.story import Demo


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
    console.print(printable(f"next: proponent {shlex.join(command)}"), soft_wrap=True, markup=False)


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
