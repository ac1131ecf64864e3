"""The application, and the options that several verbs share."""

from __future__ import annotations

import glob
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from proponent.errors import InputError

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


def require_writable(output: Path | None) -> None:
    """Raise InputError where a file cannot be written: said before the work, not after it."""
    if output is None:
        return
    if output.is_dir():
        raise InputError(f"{output}: is a folder; give the name of a file to write")
    if output.exists() and not output.is_file():
        raise InputError(f"{output}: is not an ordinary file; give the name of a file to write")
    if output.exists() and not os.access(output, os.W_OK):
        raise InputError(f"{output}: is read-only; give the name of another file to write")
    folder = next(parent for parent in output.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{output}: cannot be written in {folder}: {error.strerror}") from error


def require_queries(path: Path | None) -> None:
    """Raise InputError where a file of queries is missing; globs and hub data sets are looked up later."""
    if path is None or path.exists() or glob.has_magic(str(path)) or str(path).startswith("hf:"):
        return
    raise InputError(f"{path}: no such file of queries")
