"""The tasks of a build, each a pure step from files to files.

A task reads files of earlier tasks, writes its own aside and renames them, and marks itself as done.  It
needs no memory of another task, may run twice with the same bytes, and does not know who runs it:

    features(shard) → hessian_part(span, block) → hessian(block) → factor(block) → whiten(group) → finish
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path

import torch
from torch import Tensor

from proponent.build.marks import Marks
from proponent.build.plan import PLAN, passage_columns, read_staged
from proponent.files import checksum, read_json, write_checksummed_json
from proponent.gradients.features import FeatureExtractor, extract
from proponent.index.codec import Rows, encode
from proponent.index.hessian import HessianSum, TraceSum, added, split_blocks
from proponent.index.manifest import COPY
from proponent.index.norms import row_norms
from proponent.index.run import RunFolder
from proponent.index.signs import encode_signs
from proponent.index.sketch import Sketch
from proponent.index.storage import read_tensors, write_table, write_tensors
from proponent.index.whitening import unpack_block, whitening_of
from proponent.progress import Advance

# Shards whose part of R is summed in one task, and shards that are whitened together, in one product.
SPAN_SHARDS = 128
GROUP_SHARDS = 2
START = "start"  # mark of what is written before the first task

Checksums = dict[Path, str]


@dataclass(frozen=True)
class Build:
    """A run that is being built.

    blocks: number of blocks b.  damping: of R_train, as in the spec; None where R_train is taken for the
    identity.  sketch: whose signs a compact run stores; None for a full one.  extractor: makes its features;
    None where only later tasks are run.
    """

    folder: RunFolder
    marks: Marks
    blocks: int
    damping: float | str | None
    sketch: Sketch | None = None
    extractor: FeatureExtractor | None = None

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.marks.read(PLAN)["shards"])

    @property
    def spans(self) -> list[range]:
        """Shards that are summed together."""
        return _cut(self.shards, SPAN_SHARDS)

    @property
    def groups(self) -> list[range]:
        """Shards that are whitened together."""
        return _cut(self.shards, GROUP_SHARDS)

    def rows(self, shard: int) -> int:
        """Rows of a shard whose features are finite."""
        return int(self.marks.read(features_name(shard))["rows"])

    def features(self, shard: int) -> Rows:
        """Features φ of a shard, encoded."""
        return Rows.stored(self.read(features_name(shard), self.folder.features(shard)))

    def read(self, task: str, file: Path) -> dict[str, Tensor]:
        """Tensors of a file that a task wrote; InputError where it was damaged since."""
        return read_tensors(self.marks.sound(task, file))


def _cut(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


@dataclass(frozen=True)
class Task:
    """One step of a build after the features: a function of it and some numbers that writes files."""

    function: Callable[..., Checksums]
    numbers: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of its mark."""
        return "-".join([self.function.__name__, *(f"{number:05d}" for number in self.numbers)])

    def run(self, build: Build) -> None:
        """Do it, and mark it as done."""
        build.marks.write(self.name, self.function(build, *self.numbers))


def features_name(shard: int) -> str:
    """Name of the task that makes a shard's features."""
    return f"features-{shard:05d}"


def features(builds: Sequence[Build], shard: int, output: str, advance: Advance) -> None:
    """Features of one shard's rows in all builds where they are missing, from one pass of the model.

    Rows whose squared norm is not finite are left out and named in the mark: they must not reach R.
    """
    missing = [build for build in builds if not build.marks.done(features_name(shard))]
    if not missing:
        advance(builds[0].marks.read(PLAN)["shards"][shard]["rows"])
        return
    staged = read_staged(builds[0].marks, shard)

    def done(rows: Sequence[int]) -> None:
        advance(len(rows), tokens=sum(len(staged.rows[n]) for n in rows))

    extractors = [build.extractor for build in missing if build.extractor is not None]
    made = extract(extractors, staged.rows, staged.starts, output, done)
    for build, part in zip(missing, made, strict=True):
        finite = part.norm(dim=1).isfinite()
        kept = list(compress(staged.passages, finite.tolist()))
        dropped = [passage.id for passage in compress(staged.passages, (~finite).tolist())]
        written = _written_features(build, shard, part if not dropped else part[finite])
        examples = build.folder.examples(shard)
        write_table(examples, passage_columns(kept), partial(written.setdefault, examples))
        build.marks.write(features_name(shard), written, rows=len(kept), not_finite=dropped)


def _written_features(build: Build, shard: int, rows: Tensor) -> Checksums:
    """Write a shard's features φ [n, d], to be whitened, or what the index of a compact run keeps of them."""
    if build.sketch is None:
        return _written(build.folder.features(shard), encode(rows))
    blocks = [unpack_block(build.read(START, build.folder.whitening(b))) for b in range(build.blocks)]
    norms = row_norms(rows)
    for part, block in zip(split_blocks(rows, build.blocks), blocks, strict=True):
        part.copy_(block.whiten(part))
    stored = {**encode_signs(rows, row_norms(rows), build.sketch), "feature_norm": norms}
    return _written(build.folder.index(shard), stored)


def hessian_part(build: Build, span: int, block: int) -> Checksums:
    """Sums for one block of R_train over a span of shards."""
    total: HessianSum | TraceSum | None = None
    for shard in build.spans[span]:
        rows = build.features(shard)
        width = rows.dim // build.blocks
        total = total or (TraceSum(width) if build.damping is None else HessianSum.empty(width))
        total.add(rows.columns(block * width, (block + 1) * width))
    assert total is not None
    return _written(build.folder.hessian_part(span, block), total.pack())


def hessian(build: Build, block: int) -> Checksums:
    """One block of R_train: its parts added in the order of the spans, over the number of rows."""
    files = {
        Task(hessian_part, (span, block)).name: build.folder.hessian_part(span, block)
        for span in range(len(build.spans))
    }
    total = added(build.read(task, file) for task, file in files.items())
    return _written(build.folder.hessian(block), total.mean().pack())


def factor(build: Build, block: int) -> Checksums:
    """The whitening of one block of R_train."""
    tensors = build.read(Task(hessian, (block,)).name, build.folder.hessian(block))
    return _written(build.folder.whitening(block), whitening_of(tensors, build.damping).pack())


def whiten(build: Build, group: int) -> Checksums:
    """Whitened rows of a group of shards, with one factor in memory at a time."""
    shards = build.groups[group]
    stored = [build.features(shard) for shard in shards]
    counts, width = [len(rows) for rows in stored], stored[0].dim // build.blocks
    whole = torch.empty(sum(counts), stored[0].dim)
    for rows, part in zip(stored, whole.split(counts), strict=True):
        rows.decode(part)
    memory = None if build.damping is None else torch.zeros(width, width)
    for b, part in enumerate(split_blocks(whole, build.blocks)):
        tensors = build.read(Task(factor, (b,)).name, build.folder.whitening(b))
        part.copy_(unpack_block(tensors, memory).whiten(part))
    written: Checksums = {}
    for shard, rows, psi in zip(shards, stored, whole.split(counts), strict=True):
        written |= _written(build.folder.index(shard), {**encode(psi), "feature_norm": rows.norms})
    return written


def _written(file: Path, tensors: dict[str, Tensor]) -> Checksums:
    written: Checksums = {}
    write_tensors(file, tensors, partial(written.setdefault, file))
    return written


def later_stages(build: Build) -> dict[str, list[Task]]:
    """The tasks after the features by the title of their stage; those of one stage run in any order."""
    if build.sketch is not None:  # its rows were whitened and encoded as they came
        return {}
    blocks, spans, groups = range(build.blocks), range(len(build.spans)), range(len(build.groups))
    return {
        "R_train": [Task(hessian_part, (span, b)) for span in spans for b in blocks],
        "R_train, summed": [Task(hessian, (b,)) for b in blocks],
        "factors and eigenvalues": [Task(factor, (b,)) for b in blocks],
        "whitening": [Task(whiten, (group,)) for group in groups],
    }


def finish(build: Build) -> None:
    """Mark the run as finished, with its totals and every file's checksum, compared with the bytes now."""
    marks, folder, shards = build.marks, build.folder, range(build.shards)
    tasks = [task for stage in later_stages(build).values() for task in stage]
    kept = [task.name for task in tasks if task.function is not hessian_part]
    checksums = {folder.manifest: checksum(folder.manifest), **marks.checksums([START, *kept])}
    for shard in shards:
        task, files = features_name(shard), [folder.examples(shard)]
        for file in files if build.sketch is None else [*files, folder.index(shard)]:
            checksums[marks.sound(task, file)] = marks.files(task)[file]
    plan, rows = marks.read(PLAN)["shards"], [build.rows(shard) for shard in shards]
    tokens, empty, short = (sum(part[name] for part in plan) for name in ("tokens", "empty", "too_short"))
    broken = [id for shard in shards for id in marks.read(features_name(shard))["not_finite"]]
    totals = {
        "rows": sum(rows),
        "tokens": tokens,
        "skipped": {"empty": empty, "too_short": short, "not_finite": broken},
        "shards": rows,
        "checksums": {p.relative_to(folder.path).as_posix(): found for p, found in sorted(checksums.items())},
        COPY: read_json(folder.manifest),
    }
    write_checksummed_json(folder.done, totals)
