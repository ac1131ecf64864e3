"""Writing a run: raw feature shards, then R_train, then the whitened index, with no model at hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from proponent.errors import InputError
from proponent.index.codes import decode_rows, encode_rows
from proponent.index.hessian import Hessian, HessianSums, pack_triangles, symmetric, unpack_triangles, whiten
from proponent.index.run import FORMAT, Passage, RunFolder
from proponent.index.shrinkage import dampings
from proponent.index.storage import (
    aside,
    checksum,
    locked,
    read_json,
    read_sealed_json,
    read_tensors,
    write_json,
    write_sealed_json,
    write_table,
    write_tensors,
)
from proponent.progress import Progress

DAMAGED = "damaged (its checksum differs); remove it and run the same command again"
EXAMPLES = pa.schema([("id", pa.string()), ("source", pa.string()), ("text", pa.string())])


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
        folder.path.is_dir() and set(folder.path.iterdir()) <= {aside(folder.manifest), folder.lock}
    ):
        raise InputError(f"{folder.path}: exists and is not a run; give a new or an empty folder")


def start_run(folder: RunFolder, manifest: Mapping[str, Any], moments: Mapping[str, Tensor]) -> None:
    """Write ``run.json`` and the second moments, what of them is not there yet."""
    if not folder.manifest.is_file():
        write_json(folder.manifest, {"format": FORMAT, **manifest})
    if not _is_sealed(folder, folder.moments):
        write_tensors(folder.moments, moments, _sealing(folder, folder.moments))


@contextmanager
def building(folder: RunFolder) -> Iterator[None]:
    """Keep other processes from building the run; on a finished run nothing is done."""
    if folder.done.is_file() and not folder.raw.exists() and not folder.lock.exists():
        yield
        return
    with locked(folder.lock, f"{folder.path}: another process is building this run; wait until it is done"):
        yield


def sound_moments(folder: RunFolder) -> dict[str, Tensor] | None:
    """Second moments of an unfinished run as packed tensors, or None when they must be made."""
    if not _is_sealed(folder, folder.moments):
        return None
    _sealed_checksum(folder, folder.moments)
    return read_tensors(folder.moments)


def _sealing(folder: RunFolder, file: Path) -> Callable[[str], None]:
    """Writes the seal of a file that is about to get its name: no file is ever there without its own."""

    def seal(found: str) -> None:
        if file.exists():
            file.unlink()
        write_sealed_json(folder.seal(file), {"checksum": found})

    return seal


def _is_sealed(folder: RunFolder, file: Path) -> bool:
    """Whether a file is there with its checksum; otherwise it must be written (again)."""
    return file.is_file() and folder.seal(file).is_file()


def _sealed_checksum(folder: RunFolder, file: Path) -> str:
    """The checksum that a file has, and had when it was written; InputError when these differ."""
    return _same(file, str(_read_mark(folder.seal(file))["checksum"]))


def _same(file: Path, expected: str) -> str:
    if checksum(file) != expected:
        raise InputError(f"{file}: {DAMAGED}")
    return expected


def _read_mark(path: Path) -> dict[str, Any]:
    try:
        return read_sealed_json(path)
    except InputError as error:
        raise InputError(f"{path}: {DAMAGED}") from error


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
    write_tensors(
        folder.raw_features(shard), encode_rows(features[finite]), partial(checksums.setdefault, "features")
    )
    columns = {name: [getattr(passage, name) for passage in kept] for name in EXAMPLES.names}
    write_table(folder.examples(shard), columns, EXAMPLES, partial(checksums.setdefault, "examples"))
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
        markers.append(_read_mark(folder.raw_marker(len(markers))))
    return markers


def finish_run(folder: RunFolder, blocks: int, damping: float | str, progress: Progress) -> None:
    """Turn finished raw shards into the searchable index and mark the run as done.

    Each file is written whole and skipped when it is there, so a killed run goes on from the last one.
    Raises InputError for a file that is no longer what was written.
    """
    raw = _RawShards(folder)
    shards = raw.rows
    if not sum(shards):
        raise InputError("no passage of the corpus gave a finite gradient; is the model sound?")
    if not _is_sealed(folder, folder.hessian):
        _write_hessian(raw, blocks, progress)
    if not all(_is_sealed(folder, file) for file in (folder.spectrum, folder.whitening)):
        _write_whitening(folder, damping, sum(shards), progress)
    _write_index(raw, progress)
    write_sealed_json(folder.done, _summary(raw))
    remove_leftovers(folder)


def remove_leftovers(folder: RunFolder) -> None:
    """Remove the raw features of a finished run, and the checksums that ``done.json`` now holds."""
    if folder.raw.exists():
        shutil.rmtree(folder.raw)


class _RawShards:
    """The finished raw shards of a run; each is compared with its checksum when first read."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.markers = raw_markers(folder)
        self.rows = [int(marker["rows"]) for marker in self.markers]
        self._checked: set[int] = set()

    def features(self, shard: int) -> Tensor:
        """Features [n, d] of a shard."""
        path = self.folder.raw_features(shard)
        if shard not in self._checked:
            _same(path, self.markers[shard]["checksums"]["features"])
            self._checked.add(shard)
        return decode_rows(**read_tensors(path))


def _write_hessian(raw: _RawShards, blocks: int, progress: Progress) -> None:
    folder = raw.folder
    sums: HessianSums | None = None
    with progress.stage("R_train", sum(raw.rows), "passages") as advance:
        for shard, rows in enumerate(raw.rows):
            features = raw.features(shard)
            sums = sums or HessianSums(blocks, features.shape[1] // blocks)
            sums.add(features)
            advance(rows)
    assert sums is not None
    hessian = sums.mean()
    tensors = {**pack_triangles("block", hessian.blocks), "fourth": hessian.fourth}
    write_tensors(folder.hessian, tensors, _sealing(folder, folder.hessian))


def _write_whitening(folder: RunFolder, damping: float | str, rows: int, progress: Progress) -> None:
    """Cholesky factors and eigenvalues, a block at a time: their float64 copies are large."""
    factors: list[Tensor] = []
    eigenvalues: list[Tensor] = []
    chosen: list[Tensor] = []
    _sealed_checksum(folder, folder.hessian)
    stored = read_tensors(folder.hessian)
    triangles = unpack_triangles("block", stored)
    with progress.stage("Cholesky factors and eigenvalues", len(triangles), "blocks") as advance:
        for triangle, fourth in zip(triangles, stored["fourth"].split(1), strict=True):
            block = Hessian((symmetric(triangle),), rows, fourth)
            chosen.append(dampings(damping, block))
            factors.extend(block.factors(chosen[-1]))
            eigenvalues.append(block.eigenvalues())
            advance(1)
    spectrum = {"eigenvalues": torch.cat(eigenvalues), "dampings": torch.cat(chosen)}
    write_tensors(folder.spectrum, spectrum, _sealing(folder, folder.spectrum))
    packed = pack_triangles("factor", tuple(factors))
    write_tensors(folder.whitening, packed, _sealing(folder, folder.whitening))


def _write_index(raw: _RawShards, progress: Progress) -> None:
    folder = raw.folder
    factors: tuple[Tensor, ...] = ()
    with progress.stage("whitening", sum(raw.rows), "passages") as advance:
        for shard, rows in enumerate(raw.rows):
            file = folder.index(shard)
            if not _is_sealed(folder, file):
                if not factors:
                    _sealed_checksum(folder, folder.whitening)
                    factors = unpack_triangles("factor", read_tensors(folder.whitening))
                features = raw.features(shard)
                whitened = whiten(features, factors)
                norms = {"feature_norm": features.norm(dim=1), "whitened_norm": whitened.norm(dim=1)}
                write_tensors(file, {**encode_rows(whitened), **norms}, _sealing(folder, file))
            advance(rows)


def _summary(raw: _RawShards) -> dict[str, Any]:
    """Totals, and every file's checksum, which must be that of when it was written."""
    folder, markers = raw.folder, raw.markers
    checksums = {folder.manifest: checksum(folder.manifest)}  # its values were compared by check_folder
    for file in (folder.moments, folder.hessian, folder.whitening, folder.spectrum):
        checksums[file] = _sealed_checksum(folder, file)
    for shard, marker in enumerate(markers):
        examples, index = folder.examples(shard), folder.index(shard)
        checksums[examples] = _same(examples, marker["checksums"]["examples"])
        checksums[index] = _sealed_checksum(folder, index)
    return {
        "rows": sum(marker["rows"] for marker in markers),
        "tokens": sum(marker["tokens"] for marker in markers),
        "skipped": {
            "empty": sum(marker["empty"] for marker in markers),
            "too_short": sum(marker["too_short"] for marker in markers),
            "not_finite": [name for marker in markers for name in marker["not_finite"]],
        },
        "shards": raw.rows,
        "checksums": {file.relative_to(folder.path).as_posix(): found for file, found in checksums.items()},
    }
