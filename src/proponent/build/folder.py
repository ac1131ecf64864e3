"""The folder of a run that is being built: who may build in it, and whether it is the same run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from proponent.errors import InputError
from proponent.files import is_aside, is_locked, locked
from proponent.index.manifest import COMPACTED, MADE_WITH, read_manifest
from proponent.index.run import Index, RunFolder

# A part of run.json that is not compared, as is MADE_WITH: the weights that are not covered.
UNCOVERED = "uncovered"


def threads_of(begun: Mapping[RunFolder, Mapping[str, Any]]) -> int | None:
    """The number of threads that unfinished runs were begun with, by their manifests; None where none was.

    Raises InputError where they differ: how sums are split among threads decides their last digits, so runs
    of one pass have to share it.
    """
    counts: dict[int, RunFolder] = {}
    for folder, manifest in begun.items():
        if folder.done.is_file():
            continue
        counts[manifest[MADE_WITH]["threads"]] = folder
    if len(counts) > 1:
        said = ", ".join(f"{folder.name} with {count}" for count, folder in counts.items())
        raise InputError(f"runs of one pass need the same number of threads: {said}; build them one by one")
    return next(iter(counts), None)


def compared(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of ``run.json`` by which a run is the same: not with what it was made, nor where."""
    same = {name: value for name, value in manifest.items() if name not in (MADE_WITH, UNCOVERED)}
    if made_of := manifest.get(COMPACTED):
        same[COMPACTED] = {"checksum": made_of["checksum"]}
    return same


def check_folder(folder: RunFolder, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest of the run in a folder, if any, once it has been compared with the given one.

    Raises InputError for a folder with other things in it, for a run of another spec, model or corpus, naming
    what differs, and for a damaged manifest.
    """
    if folder.manifest.is_file():
        here = Index(folder.name).manifest if folder.done.is_file() else read_manifest(folder)
        differences = list(_differences("", compared(here), compared(manifest)))
        if differences:
            raise InputError(
                f"{folder.name}: this run was made with other settings: {'; '.join(differences)}; "
                "give another folder, or the same settings to go on"
            )
        return here
    _refuse_other_things(folder)
    return None


def _refuse_other_things(folder: RunFolder) -> None:
    path = folder.path
    if folder.manifest.is_file():
        return
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}: a link to a folder that is not there; give another folder")
    if not folder.kept.vacant():
        raise InputError(f"{folder.name}: exists and is not a run; give a new or an empty folder")


@contextmanager
def building(folder: RunFolder) -> Iterator[None]:
    """Keep other processes from building the run, and remove what killed ones left half-written.

    A finished run is not locked.  Raises InputError for one that another process builds, and for a folder
    with other things in it.
    """
    _refuse_other_things(folder)
    if folder.done.is_file() and not folder.kept.holds(folder.work) and not folder.lock.exists():
        yield
        return
    with alone(folder):
        folder.kept.require_writable(folder.work)
        yield


@contextmanager
def alone(folder: RunFolder) -> Iterator[None]:
    """Hold the run's lock, whether it is finished or not, and remove what killed processes half wrote."""
    with locked(folder.lock, _busy(folder)):
        for path in [*filter(is_aside, folder.path.rglob(".*"))]:
            path.unlink()
        yield


@contextmanager
def sharing(folder: RunFolder) -> Iterator[None]:
    """Make features for a run beside others that do the same, while no process builds it as a whole."""
    with locked(folder.lock, _busy(folder), shared=True):
        folder.kept.require_writable(folder.work)
        yield


def _busy(folder: RunFolder) -> str:
    return f"{folder.name}: another process is building this run; wait until it is done"


def is_being_built(folder: RunFolder) -> bool:
    """Whether another process holds the run's lock."""
    return folder.lock.exists() and is_locked(folder.lock)


def remove_leftovers(folder: RunFolder) -> None:
    """Remove what only the build needed."""
    folder.kept.remove(folder.work)


def _differences(name: str, old: Any, new: Any) -> Iterator[str]:
    """``name was OLD, now NEW`` for each value that differs; nested names are joined by dots."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(f"{name}.{key}" if name else key, old.get(key), new.get(key))
    elif old != new:
        short = [text if len(text) <= 60 else f"{text[:57]}..." for text in (str(old), str(new))]
        yield f"{name} was {short[0]}, now {short[1]}"
