"""Processes of their own that find the package here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PYTHONUNBUFFERED": ""}


def python(
    *arguments: str, out: int | IO[str] = subprocess.PIPE, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python; what it prints is written when it has enough or ends.  env: instead of ENVIRONMENT."""
    return subprocess.run(
        [sys.executable, *arguments],
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=ENVIRONMENT if env is None else env,
    )
