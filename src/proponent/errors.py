"""The one exception that a user is meant to see."""

from __future__ import annotations


class InputError(ValueError):
    """Something given to proponent cannot be used: a file, a setting, a run, a model.

    The message is one line that names what was found, what was expected and the remedy; the command
    line prints it after ``error:`` and exits with code 2.
    """
