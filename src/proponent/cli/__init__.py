"""The command line: one verb for each verb of the library, and one error line for bad input.

Nothing heavy is imported before a verb needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys

from proponent.cli.options import app
from proponent.cli.process import collect_less, run_alone
from proponent.errors import InputError

# Each module registers its verbs as it is imported: this is their order in the help.
# isort: split
from proponent.cli import runs

# isort: split
from proponent.cli import results

# isort: split
from proponent.cli import viewing

# isort: split
from proponent.cli import models

__all__ = ["app", "collect_less", "command", "main", "models", "results", "runs", "viewing"]


def command() -> None:
    """Run the command line as the installed command does, in a process that has nothing else to do."""
    run_alone(main)


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit code 2."""
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        print(f"error: {error.filename or 'system'}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
