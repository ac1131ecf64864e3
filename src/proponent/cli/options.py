"""The application, the options that several verbs share, and the checks that come before any work."""

from __future__ import annotations

import glob
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import proponent as pp
from proponent.cli.help import Verb
from proponent.cli.printing import show
from proponent.errors import InputError
from proponent.files import parse_json
from proponent.remote import require_local

app = typer.Typer(
    name="proponent",
    help="Tell which training text made a language model say what it said.",
    add_completion=False,
    rich_markup_mode=None,
    subcommand_metavar="VERB ARGUMENTS",
    pretty_exceptions_enable=False,
)
verb = partial(app.command, cls=Verb)
Check = Callable[[Any], str | None]  # what is wanted instead of a value; None where it is right


def option(about: str, *names: str, metavar: str | None = None, check: Check | None = None) -> Any:
    """An option with its help; ``check`` is called with its value as the command is read."""

    def checked(param: typer.CallbackParam, value: Any) -> Any:
        if value is not None and (wanted := check(value) if check else None):
            shown = f"'{value}'" if isinstance(value, str) else value
            raise InputError(f"{param.opts[0]} is {shown}; {wanted}")
        return value

    return typer.Option(*names, help=about, metavar=metavar, callback=checked)


def number(about: str, *names: str, least: float = 1, most: float = math.inf) -> Any:
    """An option that is a number of a range."""
    wanted = f"give {least:g} to {most:.0f}" if most < math.inf else f"give {least:g} or more"

    def check(value: float) -> str | None:
        return None if least <= value <= most and math.isfinite(value) else wanted

    return option(about, *names, check=check)


def positive(about: str) -> Any:
    """An option that is a number above 0."""
    return option(about, check=lambda value: None if 0 < value < math.inf else "give more than 0")


def choice(about: str, *choices: str) -> Any:
    """An option that is one of these words."""
    wanted = f"choose one of {', '.join(choices)}"
    return option(about, metavar="|".join(choices), check=lambda v: None if v in choices else wanted)


def _version(wanted: bool) -> None:
    if wanted:
        show(f"proponent {pp.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _without_verb(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Tell which training text made a language model say what it said."""
    if context.invoked_subcommand is None:
        show(context.get_help())


Run = Annotated[str, typer.Argument(help="Folder or URL of a run, made by 'proponent index'.", metavar="RUN")]
Device = Annotated[str | None, option("cpu, cuda:1, mps; auto or A,B: spread over several.", metavar="NAME")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Seed = Annotated[int, number("Seed of everything that is random.", least=0, most=2**32 - 1)]
Limit = Annotated[int | None, number("Only the first so many.")]
K = Annotated[int, number("Passages a query.", "-k")]
Workers = Annotated[int | None, number("Processes that share this machine's threads.")]
Ray = Annotated[str | None, option("Work on Ray: on this machine, or a cluster.", metavar="local|ADDRESS")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")
]
Full = Annotated[str | None, option("Where the full run of a compact one is now.", metavar="RUN")]
IdField = Annotated[str | None, option("Field of the ids; by itself the first usual name.", metavar="NAME")]
TextField = Annotated[str | None, option("Field of the text; by itself 'text'.", metavar="NAME")]
TextAs = Annotated[str, choice("Passages of a .txt file: its lines, or itself.", "lines", "documents")]


def read_sources(words: Sequence[str], complaint: str, **how: Any) -> tuple[pp.Corpus, str]:
    """The corpus of all words but the last, read as ``how`` says, and the last word, a folder to write."""
    if len(words) < 2:
        raise InputError(complaint)
    require_folder(words[-1])
    return pp.Corpus.read(*words[:-1], **how), words[-1]


def require_folder(folder: str | Path) -> None:
    """Raise InputError for a folder to write that is a link to nothing."""
    if os.path.islink(folder) and not os.path.exists(folder):
        raise InputError(f"{folder}: a link to {os.readlink(folder)}, which is not there; give a folder")


RESULTS, EFFECTS, PAGE = "result file", "file of tail-patch effects", "page of the viewer"
SUBSET = "subset of a corpus"
_FIELDS = {
    RESULTS: {"example_id", "proponents"},
    EFFECTS: {"query", "passage", "points"},
    SUBSET: {"id", "text", "rank", "adds", "supports"},
}


def require_output(output: Path | None, kind: str, inputs: Iterable[str | Path | None]) -> None:
    """Raise InputError, before any work, for an output that cannot be written or that must not be.

    It must be no input, lie in no run, and hold nothing already or something of the same kind.
    """
    if output is None:
        return
    require_local(output, "results are written to a file of this machine; give a path, and copy it then")
    _require_writable(output)
    for folder in output.resolve().parents:
        if (folder / "run.json").is_file():
            raise InputError(f"{output}: lies in the run {folder}; give the name of a file outside it")
    for given in inputs:
        if given is not None and _holds(str(given), output):
            raise InputError(f"{output}: is an input of this command; give the name of another file")
    if output.exists() and output.stat().st_size and not _is_of(kind, output):
        raise InputError(f"{output}: is there already and is no {kind}; remove it first or give another name")


def _require_writable(output: Path) -> None:
    if output.exists() and not output.is_file():
        found = "a folder" if output.is_dir() else "not an ordinary file"
        raise InputError(f"{output}: is {found}; give the name of a file to write")
    if output.exists() and not os.access(output, os.W_OK):
        raise InputError(f"{output}: is read-only; give the name of another file to write")
    folder = next(parent for parent in output.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{output}: cannot be written in {folder}: {error.strerror}") from error


def _holds(given: str, output: Path) -> bool:
    """Whether the output is a file that is given or lies in a folder that is, whatever links lead there."""
    places = [given] if os.path.exists(given) else filter(os.path.exists, glob.glob(given, recursive=True))
    there, folders = output.exists(), output.resolve().parents
    return any(Path(p).resolve() in folders or (there and output.samefile(p)) for p in places)


def _is_of(kind: str, path: Path) -> bool:
    """Whether a file begins as one that a verb writes."""
    with path.open("rb") as file:
        if kind == PAGE:
            return b"<title>proponent" in file.read(4096)
        with suppress(ValueError):
            record = parse_json(file.readline())
            return isinstance(record, dict) and _FIELDS[kind] <= record.keys()
    return False
