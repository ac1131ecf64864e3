"""The verb that shows results in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proponent.cli import options
from proponent.cli.options import number, option, positive, verb
from proponent.errors import InputError
from proponent.progress import OnStderr

TASK = option("Queries whose shared directions live traces mix out.", metavar="FILE")


@verb()
def view(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Result files to show, and at most one run to trace in.", metavar="HITS...|RUN"),
    ] = None,
    export: Annotated[Path | None, option("Write one self-contained HTML page of the result files.")] = None,
    task: Annotated[str | None, TASK] = None,
    port: Annotated[int, number("0 takes any that is free.", least=0, most=65535)] = 8321,
    host: Annotated[
        str, option("To listen on; any but the loopback address asks for a token.", metavar="ADDRESS")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Whether to open a browser.", show_default=False)] = True,
    time_limit: Annotated[float, positive("Seconds that a live request may take.")] = 300,
    allow_url: Annotated[
        bool, typer.Option("--allow-url", help="Let the page load result files by their address.")
    ] = False,
    device: options.Device = None,
    ray: options.Ray = None,
) -> None:
    """Show result files, or a run to trace in, in a browser."""
    from proponent.index.folder import is_run

    given = paths or []
    if not given and not allow_url:
        raise InputError("nothing to show; name result files or a run, or give --allow-url")
    runs = [name for name in given if is_run(name)]
    files = [name for name in given if name not in runs]
    if len(runs) > 1:
        raise InputError(f"{runs[1]}: a second folder; give result files and at most one run")
    if task is not None and not runs:
        raise InputError("--task is for live tracing; name a run folder as well")
    if ray is not None and not runs:
        raise InputError("--ray is for live tracing; name a run folder as well")
    if export is not None:
        if allow_url:
            raise InputError("--allow-url: an exported page loads nothing; leave it out")
        _export(files, runs, export)
        return
    from proponent.viewer.server import Serving, serve

    run = runs[0] if runs else None
    serving = Serving(tuple(files), run, task, device, ray, host, port, time_limit, browser, allow_url)
    serve(serving, OnStderr())


def _export(files: list[str], runs: list[str], page: Path) -> None:
    if runs:
        wanted = "a page holds result files only; give files that 'proponent trace' wrote"
        raise InputError(f"{runs[0]}: {wanted}")
    options.require_output(page, options.PAGE, files)
    from proponent.viewer.export import export_page
    from proponent.viewer.results import open_results

    export_page(open_results(files), page)
    OnStderr().say(f"written to {page}")
