"""All experiments of a run on one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Iterator
from pathlib import Path

from proponent.errors import InputError
from proponent.evaluate.experiments.catalogue import EXPERIMENTS
from proponent.evaluate.experiments.tables import Table
from proponent.files import written_whole
from proponent.index.run import Index
from proponent.remote import require_local

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #8886; text-align: right; white-space: nowrap }
th { white-space: normal; vertical-align: bottom }
th:first-child, td:first-child { text-align: left }
.scroll { overflow-x: auto }
img { width: min(100%, 40rem); background: white; display: block; margin: 1rem 0 }
.note { color: #777; font-size: .9rem }
dt { font-weight: 600 } dd { margin: 0 0 .4rem 1rem; overflow-wrap: anywhere }
"""


def report(run: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` in the run's folder of experiments, and return its path.

    Raises InputError where no experiment was run.
    """
    require_local(run, "experiments are kept in the folder of a run; copy the run to this machine")
    run = Path(run)
    index, folder = Index(run), run / "experiments"
    sections = [part for name, e in EXPERIMENTS.items() for part in _section(folder / name, e.about)]
    if not sections:
        raise InputError(f"{run}: no experiments yet; run one with: proponent experiment table1 {run}")
    facts = {
        "model": index.spec["model"],
        "rows": f"{len(index):,}",
        "tokens": f"{index.summary['tokens']:,}",
        "dimension": f"{index.dim:,}",
        "spec": json.dumps(dict(index.spec)),
    }
    made_of = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd>" for k, v in facts.items())
    page = (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>proponent: {html.escape(run.name)}</title><style>{STYLE}</style></head><body>"
        f"<h1>Experiments on {html.escape(run.name)}</h1><dl>{made_of}</dl>{''.join(sections)}"
        "</body></html>\n"
    )
    with written_whole(folder / "report.html") as aside:
        aside.write_text(page, encoding="utf-8")
    return folder / "report.html"


def _section(folder: Path, about: str) -> Iterator[str]:
    if not (folder / "table.csv").is_file():
        return
    table = Table.read(folder)
    yield f"<h2>{html.escape(folder.name)}</h2><p>{html.escape(about)}</p>"
    cells = "".join(f"<th scope='col'>{html.escape(cell)}</th>" for cell in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    yield f"<div class='scroll'><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    yield from (f"<p class='note'>{html.escape(note)}</p>" for note in table.notes)
    for figure in sorted(folder.glob("*.png")):
        data = base64.b64encode(figure.read_bytes()).decode()
        yield f"<img alt='{html.escape(folder.name)}: {figure.stem}' src='data:image/png;base64,{data}'>"
