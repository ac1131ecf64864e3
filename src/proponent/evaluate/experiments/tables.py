"""What an experiment gives: a table with its figures, written as Markdown, CSV, PNG and SVG."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proponent.errors import InputError, first_line
from proponent.evaluate.experiments.figures import Drawing
from proponent.files import written_whole


@dataclass(frozen=True)
class Table:
    """A table: its title, the names of its columns, rows of cells as text, and figures by file name."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    figures: Mapping[str, Drawing] = field(default_factory=dict)

    def markdown(self) -> str:
        """The table as Markdown, first column to the left and the others to the right, notes below."""
        lines = [
            f"**{self.title}**",
            "",
            _row(self.columns),
            _row(["---", *["---:"] * (len(self.columns) - 1)]),
        ]
        lines += [_row(row) for row in self.rows]
        if self.notes:
            lines += ["", *self.notes]
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        return self.markdown()

    def csv(self) -> str:
        """The table as CSV, one header line."""
        return as_csv(self.columns, self.rows)

    @classmethod
    def read(cls, folder: Path) -> Table:
        """The table that ``write`` left in a folder, without its figures; InputError for what is none."""
        try:
            with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
                columns, *rows = (tuple(row) for row in csv.reader(file))
            title, *lines = (folder / "table.md").read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError, csv.Error) as error:
            found = f"{folder}: its table.csv and table.md are not a table ({first_line(error)})"
            raise InputError(f"{found}; run the experiment again") from error
        notes = tuple(line for line in lines if line and not line.startswith("|"))
        return cls(title.strip("*"), columns, tuple(rows), notes)

    def write(self, folder: Path) -> None:
        """Write ``table.md``, ``table.csv`` and the figures."""
        for name, text in (("table.md", self.markdown()), ("table.csv", self.csv())):
            with written_whole(folder / name) as aside:
                aside.write_text(text, encoding="utf-8")
        for called, figure in self.figures.items():
            figure.write(folder, called)


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows of values as CSV, one header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
