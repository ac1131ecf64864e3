"""The demo's closing page."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console

from proponent.attribute.attribution import Hit
from proponent.attribute.table import print_hit
from proponent.cli.printing import show
from proponent.demo.counterfactual import CHANCE, OWN, TEXT, TOP, Counterfactual
from proponent.evaluate.metrics import mean
from proponent.evaluate.text import aligned
from proponent.progress import printable

if TYPE_CHECKING:
    from proponent.demo.story import Demo


def print_demo(demo: Demo) -> None:
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
        few = Hit(hit.query, hit.proponents[:3], hit.opponents[:1])
        print_hit(console, few, probability=demo.probabilities[hit.query.id])
    console.print(
        f"\nDoes the top passage state the fact?  All {every:,} facts, and the {demo.known:,} known ones:",
        style="bold",
    )
    show(_retrieval_table(demo))
    console.print(
        "\nBM25 looks for the words of a fact, so it is strong where sentences repeat them. Influence asks "
        "which sentences moved the model, and those need not state the fact. The paper, too, found BM25 "
        "ahead at finding facts and TrackStar ahead at finding what moves the model."
        f"\n\nλ of the task mix: {demo.shown.settings['mix']:.3f} (automatic)"
    )
    show("\n".join(_closing_lines(demo)))


def _closing_lines(demo: Demo) -> Iterator[str]:
    """Where everything is, and the commands to go on with."""
    corpus, model, run, hits = (str(demo.folder / name) for name in ("corpus", "model", "run", "hits"))
    yield f"corpus   {corpus}\nmodel    {model}\nrun      {run}\nresults  {hits}"
    results = [os.path.join(hits, f"{name}.jsonl") for name in ("trackstar-task-mix", "bm25")]
    facts, answers = os.path.join(corpus, "facts.jsonl"), str(demo.folder / "predictions.jsonl")
    query = demo.shown[0].query
    yield f"\nlook: proponent {shlex.join(['view', *results, answers])}"
    yield f"ask:  proponent {shlex.join(['view', run, '--task', facts])}"
    command = ["trace", run, "--prompt", query.prompt, "--target", query.target]
    yield f"next: proponent {shlex.join(command)}"
    again = shlex.join(["demo", str(demo.folder), "--counterfactual"])
    yield f"then: proponent {again}    # what would it say without these passages? some minutes"


def print_counterfactual(found: Counterfactual) -> None:
    """What the model would have said without the passages: one fact in a sentence, then all of them."""
    console = Console(highlight=False)
    first = found.hits[0].query
    own, text, chance = (f"{found.without[name][first.id]:.2f}" for name in (OWN, TEXT, CHANCE))
    console.print(
        f"“{printable(first.prompt)}”: trained again without the top {TOP} passages of TrackStar, the model "
        f"gives “{printable(first.target)}” {own} instead of {found.before[first.id]:.2f}; without BM25's "
        f"{text}, without random ones {chance}.\n"
    )
    console.print(f"p(target) as the model is, and without the top {TOP} passages of each:", style="bold")
    every = [found.before, *found.without.values()]
    rows = [("", "as it is", *found.without)]
    for query in (hit.query for hit in found.hits):
        fact = f"{printable(query.prompt)} → {printable(query.target)}"
        rows.append((fact, *(f"{p[query.id]:.2f}" for p in every)))
    rows.append(("mean", *(f"{mean(list(p.values())):.2f}" for p in every)))
    show(aligned(rows))
    counts = ", ".join(f"{count} {name}" for name, count in found.left_out.items())
    console.print(f"\nAll facts' passages were left out at once ({counts}), with the same seed.", style="dim")
    show(f"look: proponent {shlex.join(['view', str(found.file)])}")


def _retrieval_table(demo: Demo) -> str:
    rows = [("", *["all"] * 3, *["known"] * 3), ("method", *("top 1", "MRR", "Recall@10") * 2)]
    for method, scores in demo.retrieval.items():
        cells = [(f"{s.top:.1%}", f"{s.mrr:.3f}", f"{s.recall:.3f}") for s in scores]
        rows.append((method, *cells[0], *cells[1]))
    return aligned(rows)
