"""The one exception that a user is meant to see, and the one line that it makes of others."""

from __future__ import annotations


class InputError(ValueError):
    """Something given to proponent cannot be used: a file, a setting, a run, a model.

    The message is one line that names what was found, what was expected and the remedy; the command
    line prints it after ``error:`` and exits with code 2.  Line ends of what it quotes are taken out.
    """

    def __init__(self, message: object) -> None:
        super().__init__(" ".join(str(message).splitlines()))


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line; its type where it says nothing or only a key."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or isinstance(error, KeyError):
        return ": ".join([type(error).__name__, *lines[:1]])
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
