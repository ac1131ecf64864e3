"""The verb that shows results in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proponent.cli.options import Device, app, require_queries, require_writable
from proponent.errors import InputError


@app.command()
def view(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Result files to show, and at most one run to trace in.", metavar="HITS...|RUN"),
    ],
    export: Annotated[
        Path | None,
        typer.Option(help="Write one self-contained HTML page of the result files.", show_default=False),
    ] = None,
    task: Annotated[
        Path | None,
        typer.Option(help="Queries whose shared directions live traces mix out.", show_default=False),
    ] = None,
    port: Annotated[int, typer.Option(help="0 takes any that is free.")] = 8321,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but the loopback address asks for a token.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    time_limit: Annotated[float, typer.Option(help="Seconds that a live request may take.")] = 300,
    device: Device = None,
) -> None:
    """Show result files in a browser, or trace what you type in a run."""
    files, runs = [p for p in paths if not p.is_dir()], [p for p in paths if p.is_dir()]
    if len(runs) > 1:
        raise InputError(f"{runs[1]}: a second folder; give result files and at most one run")
    if task is not None and not runs:
        raise InputError("--task is for live tracing; name a run folder as well")
    if time_limit <= 0:
        raise InputError(f"a time limit of {time_limit:g} seconds leaves none; give more than 0")
    from proponent.progress import OnStderr

    if export is not None:
        if runs:
            raise InputError(
                f"{runs[0]}: a page holds result files only; give files that 'proponent trace' wrote"
            )
        require_writable(export)
        from proponent.viewer.export import export_page
        from proponent.viewer.results import open_results

        export_page(open_results(files), export)
        OnStderr().say(f"written to {export}")
        return
    require_queries(task)
    from proponent.viewer.server import Serving, serve

    run = runs[0] if runs else None
    serve(Serving(tuple(files), run, task, device, host, port, time_limit, browser), OnStderr())
