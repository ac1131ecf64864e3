"""Checksums that the files of an unfinished run have, and had when they were written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from proponent.errors import InputError
from proponent.files import checksum, read_sealed_json, write_sealed_json
from proponent.index.run import RunFolder

DAMAGED = "damaged (its checksum differs); remove it and run the same command again"


def sealing(folder: RunFolder, file: Path) -> Callable[[str], None]:
    """Writes the seal of a file that is about to get its name: no file is ever there without its own."""

    def seal(found: str) -> None:
        if file.exists():
            file.unlink()
        write_sealed_json(folder.seal(file), {"checksum": found})

    return seal


def is_sealed(folder: RunFolder, file: Path) -> bool:
    """Whether a file is there with its checksum; otherwise it must be written (again)."""
    return file.is_file() and folder.seal(file).is_file()


def sealed_checksum(folder: RunFolder, file: Path) -> str:
    """The checksum that a file has, and had when it was written; InputError when these differ."""
    return same(file, str(read_mark(folder.seal(file))["checksum"]))


def same(file: Path, expected: str) -> str:
    """The expected checksum; InputError when the file has another."""
    if checksum(file) != expected:
        raise InputError(f"{file}: {DAMAGED}")
    return expected


def read_mark(path: Path) -> dict[str, Any]:
    """Read a sealed JSON object of an unfinished run; InputError when it is damaged."""
    try:
        return read_sealed_json(path)
    except InputError as error:
        raise InputError(f"{path}: {DAMAGED}") from error
