"""The help of the application and of each verb, in plain lines of at most 80 columns."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

# Words for the types that typer names.
TYPES = {"int": "N", "float": "X", "str": "TEXT", "Path": "FILE", "path": "FILE"}


class Verb(TyperCommand):
    """A verb whose help names arguments as they are written and the types of options in words."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Arguments, options that are required, then the others."""
        params = self.get_params(ctx)
        arguments = [_name(param) for param in params if param.param_type_name == "argument"]
        needed = [p for p in params if p.param_type_name == "option" and p.required]
        written = ((p.get_help_record(ctx) or ("", ""))[0].split(", ")[-1] for p in needed)
        return [*arguments, *map(_in_words, written), "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then options, each with its help."""
        arguments, options = [], []
        for param in self.get_params(ctx):
            name, about = param.get_help_record(ctx) or ("", "")
            about = re.sub(r"\s*\[required\]$", "", about).replace("[default: ", "[default:\xa0")
            if param.param_type_name == "argument":
                arguments.append((_name(param), about))
            elif name:
                options.append((_in_words(name), about))
        for title, rows in (("Arguments", arguments), ("Options", options)):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _in_words(option: str) -> str:
    """An option with its type in a word."""
    return re.sub(r"<(\w+)>", lambda type: TYPES.get(type[1], type[1]), option)


def _name(param: Any) -> str:
    return str(param.metavar or param.name.upper())
