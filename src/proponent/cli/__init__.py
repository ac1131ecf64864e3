"""The command line: one verb for each verb of the library, and one error line for bad input.

Nothing heavy is imported before a verb needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys

import typer

# Each module registers its verbs as it is imported: this is their order in the help.
from proponent.cli import runs, results, viewing, planning, models  # noqa: F401  # isort: skip
from proponent.cli.options import app
from proponent.cli.printing import show_error
from proponent.cli.process import run_alone
from proponent.errors import InputError

# What is wrong with the words of a command: an unknown option, a missing argument, no number.
_USAGE: type[Exception] = typer.BadParameter.__mro__[1]


def command() -> None:
    """Run the command line as the installed command does, in a process that has nothing else to do."""
    run_alone(main)


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit code 2."""
    try:
        sys.exit(app(prog_name="proponent", standalone_mode=False) or 0)
    except InputError as error:
        show_error(error)
    except _USAGE as error:
        context = getattr(error, "ctx", None)
        asked = context.command_path if context else "proponent"
        show_error(f"{error.format_message()}; see {asked} --help")  # type: ignore[attr-defined]
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        show_error(f"{error.filename or 'system'}: {error.strerror}")
    sys.exit(2)
