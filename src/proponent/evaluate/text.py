"""Results as plain text: aligned columns and labelled lines, as wide as the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence

from proponent.evaluate.metrics import Estimate

GAP = "  "
NAMES = 14  # characters that a column of names may take from those of metrics


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells in columns, the first to the left and the others to the right.

    A row whose first cell would make the table wider than the terminal has that cell on a line above it.
    """
    sizes = [max(map(len, column)) for column in list(zip(*rows, strict=True))[1:]]
    room = shutil.get_terminal_size().columns - sum(sizes) - len(GAP) * len(sizes)
    first = max([len(row[0]) for row in rows if len(row[0]) <= room], default=0)
    lines = []
    for name, *cells in rows:
        if len(name) > first:
            lines.append(name)
            name = ""
        lines.append(GAP.join([name.ljust(first), *map(str.rjust, cells, sizes)]).rstrip())
    return "\n".join(lines)


def labelled(rows: Mapping[str, str | None]) -> str:
    """``name  value`` lines, long values folded under their beginning; what is None is left out."""
    said = {name: value for name, value in rows.items() if value is not None}
    indent = max(map(len, said), default=0) + len(GAP)
    width = max(20, shutil.get_terminal_size().columns - indent)
    lines = []
    for name, value in said.items():
        folded = [part for line in value.splitlines() or [""] for part in textwrap.wrap(line, width) or [""]]
        lines += [f"{'' if n else name:<{indent}}{part}" for n, part in enumerate(folded)]
    return "\n".join(lines)


def estimate_table(title: str, rows: Sequence[tuple[str, Mapping[str, Estimate]]]) -> str:
    """Estimates by name under a title; every row has the same metrics.  Written ``.463 [.44, .49]``.

    Metrics for which the terminal is not wide enough stand in further tables below.
    """
    named = [("", "n"), *((name, str(next(iter(of.values())).queries)) for name, of in rows)]
    columns = [(metric, *(_interval(of[metric]) for _, of in rows)) for metric in rows[0][1]]
    names, counts = (max(map(len, column)) for column in zip(*named, strict=True))
    room = shutil.get_terminal_size().columns - min(names, NAMES) - len(GAP) - counts
    blocks: list[list[tuple[str, ...]]] = [[]]
    for column in columns:
        if blocks[-1] and sum(max(map(len, c)) + len(GAP) for c in [*blocks[-1], column]) > room:
            blocks.append([])
        blocks[-1].append(column)
    tables = (
        aligned([(*of, *cells) for of, cells in zip(named, zip(*block, strict=True), strict=True)])
        for block in blocks
    )
    return f"{title}\n" + "\n\n".join(tables)


def points(found: Estimate) -> str:
    """Percentage points with their interval."""
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def percent(found: Estimate) -> str:
    """A share in percent with its interval."""
    return f"{100 * found.mean:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _interval(found: Estimate) -> str:
    return f"{_short(found.mean, 3)} [{_short(found.low, 2)}, {_short(found.high, 2)}]"


def _short(value: float, digits: int) -> str:
    """A number of at most 1 in size, without the zero before its point."""
    text = f"{value:z.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
