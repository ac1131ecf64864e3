"""Writing a run: raw feature shards, then R_train, then the whitened index, with no model at hand."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from proponent.errors import InputError
from proponent.index.codes import decode_rows, encode_rows
from proponent.index.hessian import Hessian, HessianSums, pack_triangles, symmetric, unpack_triangles, whiten
from proponent.index.run import FORMAT, Passage, RunFolder
from proponent.index.storage import (
    aside,
    checksum,
    read_json,
    read_tensors,
    write_json,
    write_sealed_json,
    write_table,
    write_tensors,
)
from proponent.progress import Progress

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
        folder.path.is_dir() and set(folder.path.iterdir()) <= {aside(folder.manifest)}
    ):
        raise InputError(f"{folder.path}: exists and is not a run; give a new or an empty folder")


def start_run(folder: RunFolder, manifest: Mapping[str, Any], moments: Mapping[str, Tensor]) -> None:
    """Write ``run.json`` and the second moments, what of them is not there yet."""
    if not folder.manifest.is_file():
        write_json(folder.manifest, {"format": FORMAT, **manifest})
    if not folder.moments.is_file():
        write_tensors(folder.moments, moments)


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
    marker: counts and the place in the corpus to go on from; ``rows`` and ``not_finite`` are added.
    """
    finite = features.norm(dim=1).isfinite()
    kept = [passage for passage, sound in zip(passages, finite.tolist(), strict=True) if sound]
    write_tensors(folder.raw_features(shard), encode_rows(features[finite]))
    columns = {name: [getattr(passage, name) for passage in kept] for name in EXAMPLES.names}
    write_table(folder.examples(shard), columns, EXAMPLES)
    dropped = [p.id for p, sound in zip(passages, finite.tolist(), strict=True) if not sound]
    write_json(folder.raw_marker(shard), {"rows": len(kept), "not_finite": dropped, **marker})


def raw_markers(folder: RunFolder) -> list[dict[str, Any]]:
    """Markers of the raw shards that are finished, in order, up to the first gap."""
    markers: list[dict[str, Any]] = []
    while folder.raw_marker(len(markers)).is_file():
        markers.append(read_json(folder.raw_marker(len(markers))))
    return markers


def finish_run(folder: RunFolder, blocks: int, damping: float, progress: Progress) -> None:
    """Turn finished raw shards into the searchable index and mark the run as done.

    Each file is written whole and skipped when it is there, so a killed run goes on from the last one.
    """
    markers = raw_markers(folder)
    shards = [int(marker["rows"]) for marker in markers]
    if not sum(shards):
        raise InputError("no passage of the corpus gave a finite gradient; is the model sound?")
    if not folder.hessian.is_file():
        _write_hessian(folder, shards, blocks, progress)
    if not folder.whitening.is_file():
        _write_whitening(folder, damping, progress)
    _write_index(folder, shards, progress)
    write_sealed_json(folder.done, _summary(folder, markers))
    remove_leftovers(folder)


def remove_leftovers(folder: RunFolder) -> None:
    """Remove the raw features of a finished run."""
    if folder.raw.exists():
        shutil.rmtree(folder.raw)


def _write_hessian(folder: RunFolder, shards: Sequence[int], blocks: int, progress: Progress) -> None:
    sums: HessianSums | None = None
    with progress.stage("R_train", sum(shards), "passages") as advance:
        for shard, rows in enumerate(shards):
            features = decode_rows(read_tensors(folder.raw_features(shard)), 0, rows)
            sums = sums or HessianSums(blocks, features.shape[1] // blocks)
            sums.add(features)
            advance(rows)
    assert sums is not None
    hessian = sums.mean()
    assert hessian.fourth is not None
    write_tensors(folder.hessian, {**pack_triangles("block", hessian.blocks), "fourth": hessian.fourth})


def _write_whitening(folder: RunFolder, damping: float, progress: Progress) -> None:
    """Cholesky factors and eigenvalues, a block at a time: their float64 copies are large."""
    factors: list[Tensor] = []
    eigenvalues: list[Tensor] = []
    triangles = unpack_triangles("block", read_tensors(folder.hessian))
    with progress.stage("Cholesky factors and eigenvalues", len(triangles), "blocks") as advance:
        for triangle in triangles:
            block = Hessian((symmetric(triangle),), 0)
            factors.extend(block.factors(damping))
            eigenvalues.append(block.eigenvalues())
            advance(1)
    write_tensors(folder.spectrum, {"eigenvalues": torch.cat(eigenvalues)})
    write_tensors(folder.whitening, pack_triangles("factor", tuple(factors)))


def _write_index(folder: RunFolder, shards: Sequence[int], progress: Progress) -> None:
    factors: tuple[Tensor, ...] = ()
    with progress.stage("whitening", sum(shards), "passages") as advance:
        for shard, rows in enumerate(shards):
            if not folder.index(shard).is_file():
                factors = factors or unpack_triangles("factor", read_tensors(folder.whitening))
                features = decode_rows(read_tensors(folder.raw_features(shard)), 0, rows)
                whitened = whiten(features, factors)
                norms = {"feature_norm": features.norm(dim=1), "whitened_norm": whitened.norm(dim=1)}
                write_tensors(folder.index(shard), {**encode_rows(whitened), **norms})
            advance(rows)


def _summary(folder: RunFolder, markers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    files = [folder.manifest, folder.moments, folder.hessian, folder.whitening, folder.spectrum]
    for shard in range(len(markers)):
        files += [folder.examples(shard), folder.index(shard)]
    return {
        "rows": sum(marker["rows"] for marker in markers),
        "tokens": sum(marker["tokens"] for marker in markers),
        "skipped": {
            "empty": sum(marker["empty"] for marker in markers),
            "too_short": sum(marker["too_short"] for marker in markers),
            "not_finite": [name for marker in markers for name in marker["not_finite"]],
        },
        "shards": [marker["rows"] for marker in markers],
        "checksums": {file.relative_to(folder.path).as_posix(): checksum(file) for file in files},
    }
