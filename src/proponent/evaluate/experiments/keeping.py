"""What experiments keep, and of which runs: a result is made again once a run that it is of has other bytes.

A run is known by the checksum of its ``done.json``, which has those of all its files.  Records from before
runs were in them have only their age: what was written after a run was finished counts as made of it.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proponent.corpus.corpus import Corpus
from proponent.corpus.survey import Reading
from proponent.errors import InputError
from proponent.files import checksum, locked, read_json, write_json
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index, RunFolder

LONGEST = 180  # characters of a file's name, to which some are added
RUN = "files of the run"  # the part of study.json that tells a run from one that took its place


@dataclass(frozen=True)
class Kept:
    """The files below a folder that are found again by their names; ``made_of.json`` has the runs of each."""

    folder: Path

    def holds(self, path: Path, runs: Sequence[Path]) -> bool:
        """Whether a file is there that was made of these runs as they are now.

        Otherwise what is there is removed, and what is written next counts as made of them.
        Raises InputError for a record that cannot be read.
        """
        record, name = self.folder / "made_of.json", path.relative_to(self.folder).as_posix()
        wanted = [identity(run) for run in runs]
        lock = record.with_name(f".{record.name}.lock")
        with locked(lock, "", wait=lambda: time.sleep(0.01)):  # another experiment may share the folder
            known, there = _made_of(record), path.is_file()
            of_these = known[name] == wanted if name in known else there and _younger(path, runs)
            if not of_these:
                path.unlink(missing_ok=True)  # before the note: a kill in between leaves no false one
            if known.get(name) != wanted:
                write_json(record, {**known, name: wanted})
        return there and of_these


def _made_of(record: Path) -> dict[str, Any]:
    try:
        return read_json(record) if record.is_file() else {}
    except InputError as error:
        raise InputError(
            f"{record}: damaged; remove it, and what is beside it counts by its age, or the whole folder"
        ) from error


def identity(run: Path) -> str:
    """What tells a finished run from one with another byte."""
    return checksum(RunFolder(run).done)


def _younger(path: Path, runs: Sequence[Path]) -> bool:
    """Whether a file was written after all runs were finished."""
    return all(RunFolder(run).done.stat().st_mtime_ns <= path.stat().st_mtime_ns for run in runs)


def require_made_with(record: Path, settings: Mapping[str, Any], run: Path) -> None:
    """Keep what the experiments of a folder are made with, or compare it with what they were made with.

    settings: plain values, to which the run's identity is added.  Raises InputError where something differs:
    what took hours is not removed unasked.
    """
    made_with, folder = {**settings, RUN: identity(run)}, record.parent
    if not record.is_file():
        write_json(record, made_with)
        return
    found = read_json(record)
    if RUN not in found and not _younger(record, [run]):
        raise InputError(
            f"{record}: is older than {RunFolder(run).done}, so its experiments may be of another run; "
            "touch it if they are of this one, or remove the folder to start over"
        )
    compared = {RUN: made_with[RUN], **found}
    if compared != made_with:
        other = next((key for key in made_with if compared.get(key) != made_with[key]), "settings")
        raise InputError(
            f"{folder}: its experiments were made with other {other}; "
            "give the same, or remove the folder to start over"
        )
    if RUN not in found:
        write_json(record, made_with)


def require_variant(folder: Path, spec: FeatureSpec, passages: Corpus, run: Path) -> None:
    """Raise InputError for a finished variant that is not what would be made of a run now.

    spec, passages: that it would be made with.
    """
    index, reading = Index(folder), Reading()
    for passage in passages:
        reading.add(passage)
    same = FeatureSpec.from_dict(index.spec) == spec  # what is of an earlier version has its defaults
    if not same or index.manifest["corpus"]["fingerprint"] != reading.fingerprint():
        raise InputError(
            f"{folder}: has other {'passages' if same else 'settings'} than {run} now; remove it, "
            "and it is made again"
        )


def file_name(name: str) -> str:
    """A name with nothing in it that a file's name may not have, and none too long."""
    whole = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")
    if len(whole) <= LONGEST:
        return whole
    return f"{whole[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
