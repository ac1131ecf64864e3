"""From raw shards to the searchable index: R_train, its factors, whitening; one block in memory at a time."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proponent.build.seals import is_sealed, same, sealed_checksum, sealing
from proponent.build.writing import raw_markers
from proponent.errors import InputError
from proponent.files import checksum, write_sealed_json
from proponent.index.codes import decode_rows, decode_shard, encode_shard
from proponent.index.hessian import (
    Hessian,
    HessianSums,
    mirror,
    pack_triangle,
    packed_size,
    split_blocks,
    unpack_triangle,
    whiten_block,
)
from proponent.index.run import RunFolder
from proponent.index.shrinkage import dampings
from proponent.index.storage import (
    Layout,
    read_columns,
    read_tensor,
    read_tensors,
    tensors_written,
    write_tensors,
)
from proponent.memory import give_back
from proponent.progress import Progress

# Shards that are whitened together: each Cholesky factor is read once for all of them.
WHITENED_SHARDS = 2


def finish_run(folder: RunFolder, blocks: int, damping: float | str, progress: Progress) -> None:
    """Turn finished raw shards into the searchable index and mark the run as done.

    Each file is written whole and skipped when it is there, so a killed run goes on from the last one.
    Raises InputError for a file that is no longer what was written.
    """
    raw = _RawShards(folder)
    shards = raw.rows
    if not sum(shards):
        raise InputError("no passage of the corpus gave a finite gradient; is the model sound?")
    if not is_sealed(folder, folder.hessian):
        _write_hessian(raw, blocks, progress)
        give_back()
    if not all(is_sealed(folder, file) for file in (folder.spectrum, folder.whitening)):
        _write_whitening(raw, blocks, damping, progress)
        give_back()
    _write_index(raw, blocks, progress)
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

    def read(self, shard: int, into: Tensor) -> None:
        """Read features [n, d] of a shard."""
        stored = read_tensors(self._sound(shard))
        decode_shard(stored["codes"], stored["scale"], into)

    def block(self, shard: int, block: int, width: int) -> Tensor:
        """Features [n, w] of a shard in one block."""
        path = self._sound(shard)
        codes = read_columns(path, "codes", block * width, (block + 1) * width)
        return decode_rows(codes, read_tensor(path, "scale"))

    @property
    def dim(self) -> int:
        """Coordinates d of a feature."""
        shard = next(shard for shard, rows in enumerate(self.rows) if rows)
        return int(read_tensors(self._sound(shard))["codes"].shape[1])

    def _sound(self, shard: int) -> Path:
        path = self.folder.raw_features(shard)
        if shard not in self._checked:
            same(path, self.markers[shard]["checksums"]["features"])
            self._checked.add(shard)
        return path


def _write_hessian(raw: _RawShards, blocks: int, progress: Progress) -> None:
    """R_train, a block at a time: all of them together would be larger than many a model."""
    folder, width = raw.folder, raw.dim // blocks
    fourth: list[Tensor] = []
    with (
        progress.stage("R_train", blocks, "blocks") as advance,
        tensors_written(
            folder.hessian,
            {**_triangles("block", blocks, width), "fourth": Layout(torch.float64, (blocks,))},
            sealing(folder, folder.hessian),
        ) as put,
    ):
        for b in range(blocks):
            packed, noise = _summed(raw, b, width)
            put(f"block/{b}", packed)
            fourth.append(noise)
            advance(1)
        put("fourth", torch.cat(fourth))


def _summed(raw: _RawShards, block: int, width: int) -> tuple[Tensor, Tensor]:
    """R_train of one block, packed, and its mean fourth power [1]; nothing else of it stays in memory."""
    sums = HessianSums(1, width)
    for shard in range(len(raw.rows)):
        sums.add(raw.block(shard, block, width))
    mean = sums.mean()
    return pack_triangle(mean.blocks[0]), mean.fourth


def _triangles(name: str, blocks: int, width: int) -> dict[str, Layout]:
    return {f"{name}/{b}": Layout(torch.float32, (packed_size(width),)) for b in range(blocks)}


def _write_whitening(raw: _RawShards, blocks: int, damping: float | str, progress: Progress) -> None:
    """Cholesky factors and eigenvalues, a block at a time: their float64 copies are large."""
    folder = raw.folder
    eigenvalues: list[Tensor] = []
    chosen: list[Tensor] = []
    sealed_checksum(folder, folder.hessian)
    fourths = read_tensor(folder.hessian, "fourth").split(1)
    with (
        progress.stage("Cholesky factors and eigenvalues", blocks, "blocks") as advance,
        tensors_written(
            folder.whitening,
            _triangles("factor", blocks, raw.dim // blocks),
            sealing(folder, folder.whitening),
        ) as put,
    ):
        for b, fourth in enumerate(fourths):
            packed, found, own = _factored(raw, b, fourth, damping)
            put(f"factor/{b}", packed)
            eigenvalues.append(found)
            chosen.append(own)
            advance(1)
        spectrum = {"eigenvalues": torch.cat(eigenvalues), "dampings": torch.cat(chosen)}
        write_tensors(folder.spectrum, spectrum, sealing(folder, folder.spectrum))


def _factored(
    raw: _RawShards, block: int, fourth: Tensor, damping: float | str
) -> tuple[Tensor, Tensor, Tensor]:
    """The packed Cholesky factor, eigenvalues [1, w] and damping [1] of one block."""
    triangle = unpack_triangle(read_tensor(raw.folder.hessian, f"block/{block}"))
    one = Hessian((mirror(triangle),), sum(raw.rows), fourth)
    own = dampings(damping, one)
    return pack_triangle(one.factors(own)[0]), one.eigenvalues(), own


def _write_index(raw: _RawShards, blocks: int, progress: Progress) -> None:
    folder, shards = raw.folder, range(len(raw.rows))
    # the same shards together whatever is there already: as many rows of a product give the same bytes
    groups = [shards[start : start + WHITENED_SHARDS] for start in shards[::WHITENED_SHARDS]]
    missing = [group for group in groups if not all(is_sealed(folder, folder.index(n)) for n in group)]
    if missing:
        sealed_checksum(folder, folder.whitening)
    with progress.stage(
        "whitening", sum(raw.rows[n] for group in missing for n in group), "passages"
    ) as advance:
        for group in missing:
            _whiten_shards(raw, group, blocks)
            advance(sum(raw.rows[n] for n in group))


def _whiten_shards(raw: _RawShards, shards: Sequence[int], blocks: int) -> None:
    """Whiten some shards in place with one Cholesky factor in memory at a time, and write them."""
    folder, dim, counts = raw.folder, raw.dim, [raw.rows[shard] for shard in shards]
    rows = torch.empty(sum(counts), dim)
    for shard, part in zip(shards, rows.split(counts), strict=True):
        raw.read(shard, part)
    norms = rows.norm(dim=1).split(counts)
    factor = torch.zeros(dim // blocks, dim // blocks)
    for b, part in enumerate(split_blocks(rows, blocks)):
        whiten_block(part, unpack_triangle(read_tensor(folder.whitening, f"factor/{b}"), factor))
    for shard, psi, norm in zip(shards, rows.split(counts), norms, strict=True):
        file = folder.index(shard)
        if not is_sealed(folder, file):
            columns = {"feature_norm": norm, "whitened_norm": psi.norm(dim=1)}
            write_tensors(file, {**encode_shard(psi), **columns}, sealing(folder, file))


def _summary(raw: _RawShards) -> dict[str, Any]:
    """Totals, and every file's checksum, which must be that of when it was written."""
    folder, markers = raw.folder, raw.markers
    checksums = {folder.manifest: checksum(folder.manifest)}  # its values were compared by check_folder
    for file in (folder.moments, folder.hessian, folder.whitening, folder.spectrum):
        checksums[file] = sealed_checksum(folder, file)
    for shard, marker in enumerate(markers):
        examples, index = folder.examples(shard), folder.index(shard)
        checksums[examples] = same(examples, marker["checksums"]["examples"])
        checksums[index] = sealed_checksum(folder, index)
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
