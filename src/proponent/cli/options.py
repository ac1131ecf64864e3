"""The application, and the options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="proponent",
    help="Tell which training text made a language model say what it said.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Run = Annotated[Path, typer.Argument(help="Folder of a run, made by 'proponent index'.", metavar="RUN")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the best there is.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that is random.")]
