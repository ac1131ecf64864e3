"""Hits as tables: proponents and opponents under their query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.progress import printable

LONGEST_PASSAGE = 400  # characters of a passage on the command line
# Of the text that Python shows for a trace: queries, passages of each side, characters of a passage.
TEXT_QUERIES, TEXT_PASSAGES, TEXT_LONGEST = 3, 5, 120


def print_hits(hits: Attribution, rows: int) -> None:
    """Proponents and opponents of each query, as a table on stdout.  rows: how many were searched."""
    console = Console()
    judged = any(hit.correct() is not None for hit in hits)
    for hit in hits:
        print_hit(console, hit, judged)
    console.print()
    console.print(Text(f"{_made(hits.settings)}, {rows:,} rows searched", style="dim"))


def as_text(hits: Sequence[Hit], settings: Mapping[str, Any] | None = None) -> str:
    """The first queries with their first passages as plain text, as wide as the terminal or 80 columns.

    settings: method and mix of the trace, for the last line.
    """
    page = StringIO()
    console = Console(file=page, color_system=None, force_jupyter=False)
    for hit in hits[:TEXT_QUERIES]:
        few = Hit(hit.query, hit.proponents[:TEXT_PASSAGES], hit.opponents[:TEXT_PASSAGES])
        print_hit(console, few, hit.correct() is not None, longest=TEXT_LONGEST)
    left = len(hits) - TEXT_QUERIES
    notes = [f"and {left:,} more {'query' if left == 1 else 'queries'}"] if left > 0 else []
    notes += [_made(settings)] if settings and settings.get("method") else []
    lines = [*page.getvalue().splitlines(), "", *notes]
    return "\n".join(line.rstrip() for line in lines).strip("\n") or "no queries"


def print_hit(
    console: Console,
    hit: Hit,
    gold: bool,
    probability: float | None = None,
    longest: int = LONGEST_PASSAGE,
) -> None:
    """One hit under its query.

    gold: whether to mark the passages that state the fact.  probability: p(target), if known.
    longest: characters of a passage.
    """
    prompt, target = printable(hit.query.prompt), printable(hit.query.target)
    header = Text.assemble((prompt, "bold"), " → ", (target, "bold green"))
    if probability is not None:
        header.append(f"   p = {probability:.2f}", style="dim")
    console.print()
    console.print(header)
    console.print(_table(hit, gold, longest))


def _table(hit: Hit, gold: bool, longest: int) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("")
    table.add_column("score", justify="right")
    if gold:
        table.add_column("gold", justify="center", style="green")
    table.add_column("id", style="dim", overflow="fold", max_width=24)
    table.add_column("passage", overflow="fold")
    for role, style, passages in (
        ("proponents", "green", hit.proponents),
        ("opponents", "red", hit.opponents),
    ):
        for rank, passage in enumerate(passages, 1):
            score, *rest = _row(passage, longest)
            marks = [Text("✓" if hit.states_fact(passage) else "")] if gold else []
            table.add_row(Text(role if rank == 1 else "", style=style), score, *marks, *rest)
    return table


def _row(passage: ScoredPassage, longest: int) -> tuple[Text, Text, Text]:
    text = " ".join(printable(passage.text).split())
    if len(text) > longest:
        text = f"{text[:longest]} …"
    return Text(f"{passage.score:+.4f}"), Text(printable(passage.id)), Text(text)


def _made(settings: Mapping[str, Any]) -> str:
    method, mix = printable(str(settings.get("method"))), settings.get("mix")
    if mix is not None:
        return f"{method}, task mix λ = {mix:.4f}"
    return f"{method}, no task mix" if settings.get("run") else method  # a baseline has no run
