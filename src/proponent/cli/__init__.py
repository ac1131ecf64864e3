"""The command line: one verb for each verb of the library, and one error line for bad input.

Nothing heavy is imported before a verb needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import sys

from proponent.cli.options import app
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

# Objects that are made before Python looks for garbage among them; by itself it takes a few hundred.
MADE_BEFORE_COLLECTING = 20_000

__all__ = ["app", "collect_less", "main", "models", "results", "runs", "viewing"]


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit code 2."""
    collect_less()
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


def collect_less() -> None:
    """Spare a short command a quarter of its time.

    The libraries make hundreds of thousands of objects that stay to the end; looking through them for
    garbage, again and again while they are imported and a last time at exit, finds none.
    """
    gc.set_threshold(MADE_BEFORE_COLLECTING, 10, 10)
    atexit.register(gc.freeze)
