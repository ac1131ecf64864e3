"""``python -m proponent``."""

from proponent.cli import main

main()
