"""``run.json``: what a run is made of, read and checked before anything relies on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from proponent.errors import InputError
from proponent.files import called, read_checksummed_json, read_json
from proponent.index.folder import RunFolder

FORMAT = 3
# Parts of run.json: versions, threads and, of these, the rows that second moments were sampled on.
MADE_WITH, SAMPLE = "made_with", "sample"
EARLIER = {"hessian": "train", "size": 0}  # settings of runs that were made before there was a choice
COMPACTED = "compacted"  # of run.json: the full run that a compact one was made of, if it was
COPY = "run"  # the part of done.json that holds run.json once more, to make it again from
REPAIR = "make it again with: proponent check RUN --repair"
IN_A_LAYER = re.compile(r".+\.\d+\..+")  # the path of a module
ANEW = "remove the folder and index the corpus again with the same command"


def read_manifest(folder: RunFolder) -> dict[str, Any]:
    """``run.json``; InputError where it is damaged, of another format version, or holds what no run does."""
    remedy = REPAIR if folder.done.is_file() else ANEW
    try:
        manifest = read_json(folder.manifest)
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from error
    if (found := manifest.get("format")) != FORMAT:
        raise InputError(
            f"{folder.name}: run format {found}, but this version of proponent reads format {FORMAT}; {ANEW}"
        )
    if isinstance(spec := manifest.get("spec"), dict):
        for name, value in EARLIER.items():
            spec.setdefault(name, value)
    for part, holds in PARTS.items():
        if not holds(manifest.get(part)):
            raise InputError(f"{called(folder.manifest)}: damaged (its '{part}' is none of a run); {remedy}")
    return manifest


def read_totals(folder: RunFolder) -> dict[str, Any]:
    """``done.json``, what is counted and every file's checksum; InputError as of ``read_manifest``."""
    totals = read_checksummed_json(folder.done)
    for part, holds in TOTALS.items():
        if not holds(totals.get(part)):
            raise InputError(f"{called(folder.done)}: damaged (its '{part}' is none of a run); {REPAIR}")
    return totals


Holds = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _positive(value: Any) -> bool:
    return _count(value) and value > 0


def _share(value: Any) -> bool:
    return type(value) in (int, float)


def _module(value: Any) -> bool:
    """Whether it names a matrix, by paths of modules of a layer joined by ``+``."""
    return _text(value) and all(map(IN_A_LAYER.fullmatch, value.split("+")))


def _list(holds: Holds) -> Holds:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _mapping(holds: Holds) -> Holds:
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


def _object(**parts: Holds) -> Holds:
    """Of an object with these parts, whatever else it has."""
    return lambda value: (
        isinstance(value, dict) and all(holds(value.get(name)) for name, holds in parts.items())
    )


def _maybe(holds: Holds) -> Holds:
    """Of a part that need not be there."""
    return lambda value: value is None or holds(value)


# What each part holds; of the spec what opening a run needs, all else is for ``FeatureSpec.from_dict``.
PARTS: Mapping[str, Holds] = {
    "spec": _object(model=_text, hessian=_text, size=_count, seed=_count),
    "corpus": _object(passages=_count, empty=_count, fingerprint=_text),
    "model": _text,
    "tokenizer": _text,
    "codec": _text,
    "side": _positive,
    "blocks": lambda value: bool(value) and _mapping(_list(_module))(value),
    "uncovered": _mapping(_share),
    MADE_WITH: _object(threads=_positive, versions=_mapping(_text), sample=_maybe(_list(_text))),
    COMPACTED: _maybe(_object(run=_text, checksum=_text, beside=_maybe(_text))),
}
TOTALS: Mapping[str, Holds] = {
    "rows": _count,
    "tokens": _count,
    "shards": _list(_count),
    "skipped": _object(empty=_count, too_short=_count, not_finite=_list(_text)),
    "checksums": _mapping(_text),
}
