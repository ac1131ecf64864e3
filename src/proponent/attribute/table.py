"""Hits as tables: proponents and opponents under their query."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage

LONGEST_PASSAGE = 400


def print_hits(hits: Attribution, rows: int) -> None:
    """Proponents and opponents of each query, as a table on stdout.  rows: how many were searched."""
    console = Console()
    gold = any(hit.gold for hit in hits)
    for hit in hits:
        print_hit(console, hit, gold)
    mix = hits.settings.get("mix")
    weight = "no task mix" if mix is None else f"task mix λ = {mix:.4f}"
    console.print()
    console.print(Text(f"{hits.settings['method']}, {weight}, {rows:,} rows searched", style="dim"))


def print_hit(console: Console, hit: Hit, gold: bool, probability: float | None = None) -> None:
    """One hit under its query.  gold: whether to mark gold passages.  probability: p(target), if known."""
    header = Text.assemble((hit.query.prompt, "bold"), " → ", (hit.query.target, "bold green"))
    if probability is not None:
        header.append(f"   p = {probability:.2f}", style="dim")
    console.print()
    console.print(header)
    console.print(_table(hit, gold))


def _table(hit: Hit, gold: bool) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("")
    table.add_column("score", justify="right")
    if gold:
        table.add_column("gold", justify="center", style="green")
    table.add_column("id", style="dim", overflow="fold", max_width=24)
    table.add_column("passage", overflow="fold")
    right = hit.gold or frozenset()
    for role, style, passages in (
        ("proponents", "green", hit.proponents),
        ("opponents", "red", hit.opponents),
    ):
        for rank, passage in enumerate(passages, 1):
            score, *rest = _row(passage)
            marks = [Text("✓" if passage.source in right else "")] if gold else []
            table.add_row(Text(role if rank == 1 else "", style=style), score, *marks, *rest)
    return table


def _row(passage: ScoredPassage) -> tuple[Text, Text, Text]:
    text = " ".join(passage.text.split())
    if len(text) > LONGEST_PASSAGE:
        text = f"{text[:LONGEST_PASSAGE]} …"
    return Text(f"{passage.score:+.4f}"), Text(passage.id), Text(text)
