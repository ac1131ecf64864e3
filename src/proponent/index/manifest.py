"""``run.json``: what a run is made of, read and checked before anything relies on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

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


def _text(value: object) -> bool:
    return isinstance(value, str)


def _count(value: object, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _mapping(value: object, holds: Callable[[Any], bool]) -> bool:
    """Whether a value is an object all of whose values hold what they should."""
    return isinstance(value, dict) and all(map(holds, value.values()))


def _texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(map(_text, value))


def _modules(value: object) -> bool:
    """Whether a value lists matrices, each by paths of modules of a layer joined by ``+``."""
    return _texts(value) and all(IN_A_LAYER.fullmatch(path) for names in value for path in names.split("+"))


def _share(value: object) -> bool:
    return type(value) in (int, float)


def _corpus(value: object) -> bool:
    parts = value if isinstance(value, dict) else {}
    return all(_count(parts.get(name)) for name in ("passages", "empty")) and _text(parts.get("fingerprint"))


def _spec(value: object) -> bool:
    """What opening a run needs of its spec; all else is for ``FeatureSpec.from_dict``."""
    parts = value if isinstance(value, dict) else {}
    return all(map(_text, (parts.get("model"), parts.get("hessian")))) and all(
        _count(parts.get(name)) for name in ("size", "seed")
    )


def _skipped(value: object) -> bool:
    parts = value if isinstance(value, dict) else {}
    return all(_count(parts.get(name)) for name in ("empty", "too_short")) and _texts(parts.get("not_finite"))


def _made_with(value: object) -> bool:
    parts = value if isinstance(value, dict) else {}
    sampled = SAMPLE not in parts or _texts(parts[SAMPLE])
    return _count(parts.get("threads"), 1) and _mapping(parts.get("versions"), _text) and sampled


def _compacted(value: object) -> bool:
    if value is None:
        return True
    return _mapping(value, _text) and isinstance(value, dict) and {"run", "checksum"} <= value.keys()


PARTS: Mapping[str, Callable[[object], bool]] = {
    "spec": _spec,
    "corpus": _corpus,
    "model": _text,
    "tokenizer": _text,
    "codec": _text,
    "side": lambda value: _count(value, 1),
    "blocks": lambda value: _mapping(value, _modules) and bool(value),
    "uncovered": lambda value: _mapping(value, _share),
    MADE_WITH: _made_with,
    COMPACTED: _compacted,
}
TOTALS: Mapping[str, Callable[[object], bool]] = {
    "rows": _count,
    "tokens": _count,
    "shards": lambda value: isinstance(value, list) and all(map(_count, value)),
    "skipped": _skipped,
    "checksums": lambda value: _mapping(value, _text),
}
