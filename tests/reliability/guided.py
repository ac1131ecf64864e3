"""Malformed inputs that look for new ways through a reader, by the branches that others took (atheris).

    pip install atheris
    PYTHONPATH=.:src python tests/reliability/guided.py NAME --runs 5000

NAME: of a kind in kinds.py.  Exit code 0: every input was used, or refused in one line.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["proponent"], enable_loader_override=False):
    from tests.reliability.kinds import Kind, kinds, refused


def one(kind: Kind, folder: Path, content: bytes) -> None:
    """Read one input; an AssertionError ends all."""
    path = folder / kind.name
    path.write_bytes(content)
    refused(partial(kind.read, path), kind.name)
    assert os.listdir(folder) == [kind.name], "something was written"


def main() -> None:
    """Begin with the sound input, and go on for so many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--runs", type=int, default=5000)
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        made, inside, sound = (Path(name) / part for part in ("made", "inside", "sound"))
        for folder in (made, inside, sound):
            folder.mkdir()
        kind = next(kind for kind in kinds(made) if kind.name == given.name)
        (sound / "input").write_bytes(kind.sound)
        # alarms are those of `refused`, and what breaks something is not left in this folder
        options = [f"-runs={given.runs}", "-handle_alrm=0", "-timeout=0", f"-artifact_prefix={made}/"]
        atheris.Setup([sys.argv[0], *options, str(sound)], partial(one, kind, inside))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
