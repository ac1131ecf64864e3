"""``python -m proponent``."""

from proponent.cli import command

command()
