"""Compact runs: made as the features come, or of a finished full run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proponent.build.folder import building, check_folder, remove_leftovers
from proponent.build.marks import Marks
from proponent.build.tasks import START
from proponent.errors import InputError
from proponent.files import checksum, write_checksummed_json, write_json, written_whole
from proponent.gradients.spec import FeatureSpec, parse_size
from proponent.index.codec import SIGNS, Rows
from proponent.index.eigen import EigenWhitening
from proponent.index.hessian import HessianBlock, TraceSum, split_blocks
from proponent.index.manifest import COMPACTED, COPY, MADE_WITH
from proponent.index.norms import row_norms
from proponent.index.run import Index, RunFolder, RunName
from proponent.index.search import Shard
from proponent.index.signs import encode_signs
from proponent.index.sketch import Sketch, kept_width, sketch_of
from proponent.index.storage import read_tensors, write_tensors
from proponent.index.whitening import BlockWhitening, ScaledIdentity
from proponent.products import product
from proponent.progress import Progress, Silent
from proponent.remote import is_url
from proponent.threads import torch_threads


def check_size(spec: FeatureSpec) -> None:
    """Raise InputError for a compact run that cannot be made in one pass."""
    if spec.size and spec.hessian != "identity":
        raise InputError(
            "a compact run is whitened as it is made, so R_train has to be the identity; use --second-moment "
            "kronecker, or make the full run and then: proponent compact RUN OUTPUT"
        )


def whitening_of_sample(features: Tensor, blocks: int) -> list[ScaledIdentity]:
    """The whitening of each block by the mean eigenvalue of a sample of features φ [n, d], if finite."""
    finite, made = features[features.norm(dim=1).isfinite()], []
    for part in split_blocks(finite, blocks):
        trace = TraceSum(part.shape[1])
        trace.add(part)
        made.append(ScaledIdentity(trace.mean_eigenvalue, trace.width))
    return made


def compact(run: RunName, output: RunName, size: int | str = 4096, progress: Progress | None = None) -> Index:
    """Make a compact run of a finished full one: a bit a coordinate of a sketch of its rows.

    size: bytes a passage, as of ``FeatureSpec.size``.  The new run needs the old one only to give certified
    answers.  Interrupted and called again, it goes on and ends with the same bytes; a finished run is
    compared with its checksums.
    Raises InputError for what is no full run, a size of none, and a folder of other things.
    """
    index, progress = Index(run), progress or Silent()
    if index.sketch is not None:
        raise InputError(f"{run}: this run is compact already; give the full run that it was made of")
    if not parse_size(size):
        raise InputError(f"size is '{size}', which is what the run has; give 4KB or another size")
    spec = {**index.spec, "size": parse_size(size)}
    folder = RunFolder(output)
    made_of = {**_places(index, folder), "checksum": checksum(index.folder.done)}
    manifest = {**index.manifest, "spec": spec, "codec": SIGNS, COMPACTED: made_of}
    threads = int(index.manifest[MADE_WITH]["threads"])  # how sums are split decides their last digits
    with building(folder), torch_threads(threads):
        check_folder(folder, manifest)
        if there := folder.done.is_file():
            remove_leftovers(folder)
        else:
            write_json(folder.manifest, manifest)
            _fill(index, folder, manifest, progress)
    made = Index(folder.name)
    if there:  # it may have been damaged since it was made
        made.check()
    return made


def _places(index: Index, folder: RunFolder) -> dict[str, str]:
    """Where a full run is, and where it is from its compact one, so that both can be moved together."""
    found = {"run": index.folder.kept.everywhere}
    if not (is_url(found["run"]) or is_url(folder.name)):
        with suppress(ValueError):  # on another drive of Windows
            found["beside"] = os.path.relpath(found["run"], os.path.abspath(folder.name))
    return found


def _fill(index: Index, folder: RunFolder, manifest: dict[str, Any], progress: Progress) -> None:
    """Write all of a compact run but ``run.json``, what of it is not there yet."""
    marks, tasks = Marks(folder), [START]
    if not marks.done(START):
        whitening = [_whitening(index, folder, manifest["spec"], block) for block in range(index.blocks)]
        same = [_copied(index, folder, file) for file in (index.folder.moments, index.folder.sides)]
        marks.write(START, dict([*same, *whitening]))
    encode = Encoder.of(index, folder.whitening, manifest["spec"])
    with progress.stage("compacting", len(index), "rows") as advance:
        for number, count in enumerate(index.summary["shards"]):
            tasks.append(f"compact-{number:05d}")
            if not marks.done(tasks[-1]):
                marks.write(tasks[-1], _compact_shard(index, folder, number, encode))
            advance(count)
    checksums = {folder.manifest: checksum(folder.manifest), **marks.checksums(tasks)}
    named = {file.relative_to(folder.path).as_posix(): found for file, found in sorted(checksums.items())}
    write_checksummed_json(folder.done, {**index.summary, "checksums": named, COPY: manifest})
    remove_leftovers(folder)


def compacted_again(compact: Index, index: Index, folder: RunFolder, damaged: Collection[str]) -> None:
    """Make damaged files of a compact run again of the full one, in a folder of their own.

    index: the full run; InputError where it is damaged there too.
    """

    def whitening(block: int) -> Path:
        made = folder.whitening(block)  # before rows are, by the order of the names
        return made if made.is_file() else compact.sound(compact.folder.whitening(block))

    for name in sorted(damaged, reverse=True):
        number = int(Path(name).stem) if "/" in name else 0
        if name.startswith("index/"):
            _compact_shard(index, folder, number, Encoder.of(index, whitening, compact.spec))
        elif name.startswith("whitening/"):
            _whitening(index, folder, compact.spec, number)
        else:
            _copied(index, folder, index.folder.path / name)


def full_run(compact: Index, given: RunName | None = None) -> Index:
    """The full run that a compact one was made of.

    given: where it is; by itself where it was, or where it is from the compact run if both were moved.
    Raises InputError for a run that was made of none, and where that is not there or is another by now.
    """
    made_of = compact.manifest.get(COMPACTED)
    if made_of is None:
        raise InputError(
            f"{compact.folder.name}: was not made of a full run, so there are no full rows; make one with "
            "'proponent index' and then 'proponent compact'"
        )
    places = [made_of["run"]] if given is None else [given]
    if given is None and "beside" in made_of and not is_url(compact.folder.name):
        places.append(os.path.normpath(os.path.join(os.path.abspath(compact.folder.name), made_of["beside"])))
    there = [place for place in places if RunFolder(place).done.is_file()]
    for place in there:
        if checksum(RunFolder(place).done) == made_of["checksum"]:
            return Index(place)
    of, remedy = f"that {compact.folder.name} was made of", "say where it is with --full RUN"
    if there:
        raise InputError(f"{there[0]}: is not the run any more {of}; {remedy}, or compact this one again")
    raise InputError(f"{places[0]}: the full run {of} is not there; put it back, or {remedy}")


@dataclass(frozen=True)
class Encoder:
    """Makes a compact run's tensors of a full run's shards.

    turns: for each block the matrix [r, w] to the eigenvectors that are kept of it; none where all is kept.
    """

    sketch: Sketch
    turns: tuple[Tensor, ...]

    @classmethod
    def of(cls, index: Index, whitening: Callable[[int], Path], spec: Mapping[str, Any]) -> Encoder:
        """For a compact run of ``index``; whitening: the file of a block's."""
        sketch = sketch_of(spec, index.blocks, index.dim // index.blocks)
        assert sketch is not None
        if sketch.dim == index.dim:
            return cls(sketch, ())
        kept = [EigenWhitening.unpack(read_tensors(whitening(b))) for b in range(index.blocks)]
        factors = (block.factor for block in index.whitening.blocks if isinstance(block, BlockWhitening))
        return cls(sketch, tuple(new.after(L) for new, L in zip(kept, factors, strict=True)))

    def __call__(self, shard: Shard) -> dict[str, Tensor]:
        """The tensors of a shard."""
        assert isinstance(shard.rows, Rows)
        rows, norms = shard.rows.decode(), shard.rows.norms
        if self.turns:
            parts = zip(split_blocks(rows, len(self.turns)), self.turns, strict=True)
            rows = torch.cat([product(part, turn) for part, turn in parts], 1)
            norms = row_norms(rows)
        return {**encode_signs(rows, norms, self.sketch), "feature_norm": shard.feature_norms}


def _whitening(index: Index, folder: RunFolder, spec: Mapping[str, Any], block: int) -> tuple[Path, str]:
    """Write what a compact run keeps of the whitening of a block; its path and checksum."""
    width, place = index.dim // index.blocks, index.folder.whitening(block)
    kept = kept_width(spec, index.blocks, width)
    if kept == width:
        return _copied(index, folder, place)
    R = HessianBlock.unpack(read_tensors(index.sound(index.folder.hessian(block))))
    old = BlockWhitening.unpack(read_tensors(index.sound(place)))
    made = EigenWhitening.of(R, old.eigenvalues, old.damping, kept)
    written = dict[Path, str]()
    write_tensors(folder.whitening(block), made.pack(), partial(written.setdefault, folder.whitening(block)))
    return next(iter(written.items()))


def _compact_shard(index: Index, folder: RunFolder, number: int, encode: Encoder) -> dict[Path, str]:
    """Write one shard of a compact run; the checksums of its files."""
    place, tensors = folder.index(number), encode(index.shard(number))
    written = dict([_copied(index, folder, index.folder.examples(number))])
    write_tensors(place, tensors, partial(written.setdefault, place))
    return written


def _copied(index: Index, folder: RunFolder, file: Path) -> tuple[Path, str]:
    """Copy a file of a run to its place in another; its new path and its checksum."""
    name = file.relative_to(index.folder.path)
    with written_whole(folder.path / name) as part:
        shutil.copyfile(index.sound(file), part)
    return folder.path / name, index.summary["checksums"][name.as_posix()]
