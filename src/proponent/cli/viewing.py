"""The verb that shows results in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proponent.cli.options import (
    PAGE,
    Device,
    at_least,
    positive,
    require_output,
    require_queries,
    verb,
)
from proponent.cli.printing import Terminal
from proponent.errors import InputError


@verb()
def view(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Result files to show, and at most one run to trace in.", metavar="HITS...|RUN"),
    ],
    export: Annotated[
        Path | None,
        typer.Option(help="Write one self-contained HTML page of the result files."),
    ] = None,
    task: Annotated[
        Path | None,
        typer.Option(help="Queries whose shared directions live traces mix out."),
    ] = None,
    port: Annotated[int, typer.Option(help="0 takes any that is free.", callback=at_least(0, 65535))] = 8321,
    host: Annotated[
        str,
        typer.Option(help="To listen on; any but the loopback address asks for a token.", metavar="ADDRESS"),
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Whether to open a browser.", show_default=False)] = True,
    time_limit: Annotated[
        float, typer.Option(help="Seconds that a live request may take.", callback=positive)
    ] = 300,
    device: Device = None,
) -> None:
    """Show result files, or a run to trace in, in a browser."""
    files, runs = [p for p in paths if not p.is_dir()], [p for p in paths if p.is_dir()]
    if len(runs) > 1:
        raise InputError(f"{runs[1]}: a second folder; give result files and at most one run")
    if task is not None and not runs:
        raise InputError("--task is for live tracing; name a run folder as well")
    if export is not None:
        if runs:
            raise InputError(
                f"{runs[0]}: a page holds result files only; give files that 'proponent trace' wrote"
            )
        require_output(export, PAGE, paths)
        from proponent.viewer.export import export_page
        from proponent.viewer.results import open_results

        export_page(open_results(files), export)
        Terminal().say(f"written to {export}")
        return
    require_queries(task)
    from proponent.viewer.server import Serving, serve

    run = runs[0] if runs else None
    serve(Serving(tuple(files), run, task, device, host, port, time_limit, browser), Terminal())
