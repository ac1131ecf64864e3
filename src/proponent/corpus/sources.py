"""What a user names as a corpus (files, globs, folders, URLs, hub datasets), resolved to sources."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from proponent.corpus.hub import HUB_PREFIX, DatasetSource, hub_source
from proponent.corpus.records import TEXT_AS, FileSource, Record, Source
from proponent.errors import InputError
from proponent.remote import files_at, is_url


def resolve(sources: Iterable[str | os.PathLike[str]], text_as: str = "lines") -> tuple[Source, ...]:
    """The sources of records that the given names stand for; the files of a glob are sorted.

    text_as: see ``FileSource``.  Raises InputError for a missing file, a glob without a match, a file of
    unknown type and a source that is given twice. A hub dataset is looked up only when it is read.
    """
    if text_as not in TEXT_AS:
        raise InputError(f"--text-as is '{text_as}'; choose {' or '.join(TEXT_AS)}")
    named = [os.fspath(source) for source in sources]
    if not named:
        raise InputError("no corpus is given; name at least one file, folder, glob or hub dataset")
    places: list[str | Path] = [place for source in named for place in _places(source)]
    short = _short_names([place for place in places if isinstance(place, Path) or is_url(place)])
    real = Counter(place if isinstance(place, str) else str(place.resolve()) for place in places)
    for name, times in real.items():
        if times > 1:
            raise InputError(f"{name}: given {times} times; name each source once")
    return tuple(
        _file_source(place, short[place], text_as) if place in short else hub_source(str(place))
        for place in places
    )


def read_records(*sources: str | os.PathLike[str]) -> Iterator[tuple[Source, Record]]:
    """All fields of every record of files, globs, folders, URLs and hub datasets, each with its source."""
    for resolved in resolve(sources):
        for record in resolved.records(needed=(), useful=()):
            yield resolved, record


def _places(source: str) -> Sequence[str | Path]:
    if is_url(source):
        return [*files_at(source)]
    if source.startswith(HUB_PREFIX):
        return [source]
    if Path(source).exists():
        return [Path(source)]
    if not glob.has_magic(source):
        raise InputError(f"{source}: no such file or folder; a hub dataset is written {HUB_PREFIX}owner/name")
    found = sorted(path for path in map(Path, glob.glob(source, recursive=True)) if path.is_file())
    if not found:
        raise InputError(f"{source}: no file matches this pattern")
    return found


def _file_source(place: str | Path, name: str, text_as: str) -> Source:
    name = name.encode("utf-8", "backslashreplace").decode()  # ids are made of it, and must be Unicode
    folder = isinstance(place, Path) and place.is_dir()
    return DatasetSource(name, str(place)) if folder else FileSource(place, name, text_as)


def _short_names(places: list[str | Path]) -> dict[str | Path, str]:
    """Each path's or URL's base name, with as many folders before it as tell it from the others."""
    names: dict[str | Path, str] = {}
    remaining = {place: _parts(place) for place in places}
    for depth in range(1, max(map(len, remaining.values()), default=0) + 1):
        tails = {path: "/".join(parts[-depth:]) for path, parts in remaining.items()}
        shared = Counter(tails.values())
        names |= tails
        remaining = {path: parts for path, parts in remaining.items() if shared[tails[path]] > 1}
    return names


def _parts(place: str | Path) -> Sequence[str]:
    return place.split("/") if isinstance(place, str) else place.absolute().parts  # a link keeps its own name
