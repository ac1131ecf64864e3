"""Hits as tables: proponents and opponents under their query."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from proponent.attribute.attribution import AVERAGED, EXACT_TOP, Attribution, Hit, ScoredPassage
from proponent.attribute.shading import in_words, shares
from proponent.attribute.significance import by_chance, nothing_stands_out, stands_out
from proponent.progress import printable

if TYPE_CHECKING:
    from proponent.attribute.subset import Selected

LONGEST_PASSAGE = 400  # characters of a passage on the command line
# Of the text that Python shows for a trace: queries, passages of each side, characters of a passage.
TEXT_QUERIES, TEXT_PASSAGES, TEXT_LONGEST = 3, 5, 120


def print_hits(hits: Attribution, rows: int) -> None:
    """Proponents and opponents of each query, as a table on stdout.  rows: how many were searched."""
    console = Console()
    for hit in hits:
        print_hit(console, hit)
    console.print()
    console.print(Text(f"{_made(hits.settings)}, {rows:,} rows searched", style="dim"))


def as_text(hits: Attribution) -> str:
    """The first queries with their first passages as plain text, as wide as the terminal or 80 columns."""
    page = StringIO()
    console = Console(file=page, color_system=None, force_jupyter=False)
    for hit in hits[:TEXT_QUERIES]:
        few = replace(hit, proponents=hit.proponents[:TEXT_PASSAGES], opponents=hit.opponents[:TEXT_PASSAGES])
        print_hit(console, few, longest=TEXT_LONGEST)
    lines = [*page.getvalue().splitlines(), "", *notes_below(hits, TEXT_QUERIES)]
    return "\n".join(line.rstrip() for line in lines).strip("\n") or "no queries"


def notes_below(hits: Attribution, shown: int) -> list[str]:
    """What is said below the first ``shown`` hits: how many more there are, and how they were made."""
    left = len(hits) - shown
    more = [f"and {left:,} more {'query' if left == 1 else 'queries'}"] if left > 0 else []
    return [*more, _made(hits.settings)] if hits.settings.get("method") else more


def print_hit(
    console: Console, hit: Hit, probability: float | None = None, longest: int = LONGEST_PASSAGE
) -> None:
    """One hit under its query; the passages that state the fact are marked where that is known.

    probability: p(target), if known.  longest: characters of a passage.
    """
    prompt, target = printable(hit.query.prompt), printable(hit.query.target)
    header = Text.assemble((prompt, "bold"), " → ", (target, "bold green"))
    if probability is not None:
        header.append(f"   p = {probability:.2f}", style="dim")
    console.print()
    console.print(header)
    console.print(_table(hit, longest))
    if line := nothing_stands_out(hit):
        console.print(Text(line, style="yellow"))
    if hit.certificate is not None:
        line = hit.certificate.sentence(len(hit.proponents), len(hit.opponents))
        console.print(Text(line, style="dim"))


def _table(hit: Hit, longest: int) -> Table:
    gold = hit.correct() is not None
    chosen = any(passage.adds is not None for passage in (*hit.proponents, *hit.opponents))
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("")
    table.add_column("score", justify="right")
    if known := any(passage.chance is not None for passage in (*hit.proponents, *hit.opponents)):
        table.add_column("by chance", justify="right")
    if chosen:
        table.add_column("adds", justify="right")
    if gold:
        table.add_column("gold", justify="center", style="green")
    table.add_column("id", style="dim", overflow="fold", max_width=24)
    table.add_column("passage", overflow="fold")
    sides = (("proponents", "green", hit.proponents), ("opponents", "red", hit.opponents))
    for role, style, passages in sides:
        for rank, passage in enumerate(passages, 1):
            marks = [Text("✓" if hit.states_fact(passage) else "")] if gold else []
            chance = [Text(by_chance(passage))] if known else []
            adds = [Text("" if passage.adds is None else f"{passage.adds:.4f}")] if chosen else []
            table.add_row(
                Text(role if rank == 1 else "", style=style),
                Text(f"{passage.score:+.4f}"),
                *chance,
                *adds,
                *marks,
                Text(printable(passage.id)),
                _passage_text(passage, longest),
                style=None if stands_out(passage) else "dim",
            )
    return table


def subset_as_text(subset: Sequence[Selected]) -> str:
    """Passages of a subset in the order in which they were chosen, as wide as the terminal or 80 columns."""
    if not subset:
        return "no passages"
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("", "adds", "supports"):
        table.add_column(head, justify="right")
    table.add_column("id", style="dim", overflow="fold", max_width=24)
    table.add_column("passage", overflow="fold")
    for rank, one in enumerate(subset, 1):
        text = " ".join(printable(one.text).split())
        shown = text if len(text) <= TEXT_LONGEST else f"{text[:TEXT_LONGEST]} …"
        cells = (f"{rank:,}", f"{one.adds:.4f}", f"{len(one.supports):,}", printable(one.id), shown)
        table.add_row(*map(Text, cells))
    page = StringIO()
    Console(file=page, color_system=None, force_jupyter=False).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def _passage_text(passage: ScoredPassage, longest: int) -> Text:
    """A passage on one line, its tokens shaded and the strongest named below where they have scores."""
    shown, spaced = Text(), True
    for part, share in shares(passage.tokens or ((passage.text, 0.0),)):
        flat = re.sub(r"\s+", " ", printable(part))
        flat = flat.lstrip() if spaced else flat
        shown.append(flat[: longest - len(shown)], _shade(share))
        spaced = shown.plain.endswith(" ")
        if len(shown) >= longest:
            shown.append(" …")
            break
    shown.rstrip()
    for note in filter(None, (also(passage), in_words(passage))):
        shown.append(f"\n{note}", "dim")
    return shown


def also(passage: ScoredPassage) -> str:
    """How many near-identical passages it stands for, '' for none."""
    count = len(passage.duplicates or ())
    return f"and {count:,} near-identical" if count else ""


def _shade(share: float) -> str:
    """Dark ink on green for towards, on red for away, the paler the weaker; none for a share of 0."""
    if not share:
        return ""
    pale = round(225 - 135 * abs(share))
    return f"black on rgb({pale},225,{pale})" if share > 0 else f"black on rgb(240,{pale},{pale})"


def _made(settings: Mapping[str, Any]) -> str:
    method, mix = printable(str(settings.get("method"))), settings.get("mix")
    if others := settings.get(AVERAGED):
        method += f", mean of {1 + len(others)} runs"
    if top := settings.get(EXACT_TOP):
        method += f", first {top:,} exact"
    if mix is not None:
        return f"{method}, task mix λ = {mix:.4f}"
    return f"{method}, no task mix" if settings.get("run") else method  # a baseline has no run
