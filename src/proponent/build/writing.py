"""Writing a run, with no model at hand: its settings, and raw feature shards one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import Any

from torch import Tensor

from proponent.build.seals import is_sealed, read_mark, sealed_checksum, sealing
from proponent.errors import InputError
from proponent.files import is_aside, locked, read_json, write_json, write_sealed_json
from proponent.index.codes import encode_shard
from proponent.index.run import FORMAT, Passage, RunFolder
from proponent.index.storage import (
    read_tensors,
    write_table,
    write_tensors,
)


def check_folder(folder: RunFolder, manifest: Mapping[str, Any]) -> None:
    """Check that a run may be made here, or that the one here was made with the same settings.

    Raises InputError for a folder with other things in it and for a run of another spec, model or
    corpus, naming what differs.
    """
    if folder.manifest.is_file():
        differences = list(_differences("", read_json(folder.manifest), {"format": FORMAT, **manifest}))
        if differences:
            raise InputError(
                f"{folder.path}: this run was made with other settings: {'; '.join(differences)}; "
                "give another folder, or the same settings to go on"
            )
        return
    if folder.path.exists() and not (
        folder.path.is_dir() and all(is_aside(p) or p == folder.lock for p in folder.path.iterdir())
    ):
        raise InputError(f"{folder.path}: exists and is not a run; give a new or an empty folder")


def start_run(folder: RunFolder, manifest: Mapping[str, Any], moments: Mapping[str, Tensor]) -> None:
    """Write ``run.json`` and the second moments, what of them is not there yet."""
    if not folder.manifest.is_file():
        write_json(folder.manifest, {"format": FORMAT, **manifest})
    if not is_sealed(folder, folder.moments):
        write_tensors(folder.moments, moments, sealing(folder, folder.moments))


@contextmanager
def building(folder: RunFolder) -> Iterator[None]:
    """Keep other processes from building the run and remove what killed ones left half-written.

    On a finished run nothing is done.
    """
    if folder.done.is_file() and not folder.raw.exists() and not folder.lock.exists():
        yield
        return
    with locked(folder.lock, f"{folder.path}: another process is building this run; wait until it is done"):
        for path in [*filter(is_aside, folder.path.rglob(".*"))]:
            path.unlink()
        yield


def sound_moments(folder: RunFolder) -> dict[str, Tensor] | None:
    """Second moments of an unfinished run as packed tensors, or None when they must be made."""
    if not is_sealed(folder, folder.moments):
        return None
    sealed_checksum(folder, folder.moments)
    return read_tensors(folder.moments)


def _differences(name: str, old: Any, new: Any) -> Iterator[str]:
    """``name was OLD, now NEW`` for each value that differs; nested names are joined by dots."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(f"{name}.{key}" if name else key, old.get(key), new.get(key))
    elif old != new:
        short = [text if len(text) <= 60 else f"{text[:57]}..." for text in (str(old), str(new))]
        yield f"{name} was {short[0]}, now {short[1]}"


def write_raw_shard(
    folder: RunFolder,
    shard: int,
    passages: Sequence[Passage],
    features: Tensor,
    marker: Mapping[str, Any],
) -> None:
    """Write one shard of features [n, d] and its passages, then its marker.

    Rows that are not finite, or whose squared norm is not, are left out and named in the marker, so that
    they never reach R.
    marker: counts and the place in the corpus to go on from; ``rows``, ``not_finite`` and the checksums
    of both files are added.
    """
    checksums: dict[str, str] = {}
    finite = features.norm(dim=1).isfinite()
    kept = [passage for passage, sound in zip(passages, finite.tolist(), strict=True) if sound]
    sound_rows = features if len(kept) == len(features) else features[finite]
    write_tensors(
        folder.raw_features(shard), encode_shard(sound_rows), partial(checksums.setdefault, "features")
    )
    columns = {part.name: [getattr(passage, part.name) for passage in kept] for part in fields(Passage)}
    write_table(folder.examples(shard), columns, partial(checksums.setdefault, "examples"))
    dropped = [p.id for p, sound in zip(passages, finite.tolist(), strict=True) if not sound]
    counts = {"rows": len(kept), "not_finite": dropped, **marker}
    write_sealed_json(folder.raw_marker(shard), {**counts, "checksums": checksums})


def has_raw_shard(folder: RunFolder, shard: int) -> bool:
    """Whether a raw shard is finished and none of its files was removed since."""
    files = (folder.raw_marker(shard), folder.raw_features(shard), folder.examples(shard))
    return all(file.is_file() for file in files)


def raw_markers(folder: RunFolder) -> list[dict[str, Any]]:
    """Markers of the raw shards that are finished, in order, up to the first gap."""
    markers: list[dict[str, Any]] = []
    while has_raw_shard(folder, len(markers)):
        markers.append(read_mark(folder.raw_marker(len(markers))))
    return markers
