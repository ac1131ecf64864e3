"""The RUN folder: where every file of a run lies."""

from __future__ import annotations

import os
from pathlib import Path

from proponent.mirror import folder_of
from proponent.remote import is_url

RunName = str | os.PathLike[str]  # a path, or the URL of a folder of a store


class RunFolder:
    """Paths of a run's files; docs/format.md describes their bytes.

    name: a path, or the URL of a folder of a store.  That is looked at once: ``run.json`` and ``done.json``
    are then here if they are there, and other files once ``kept`` has fetched them.
    """

    def __init__(self, name: RunName) -> None:
        self.kept = folder_of(name, "run.json", "done.json")
        self.name, self.path = self.kept.name, self.kept.path
        path = self.path
        self.manifest = path / "run.json"  # what the run is made of; written first
        self.moments = path / "moments.safetensors"  # second moments of every matrix
        self.sides = path / "sides.safetensors"  # projections with second moments folded in
        self.done = path / "done.json"  # totals and checksums; written last: then the run is finished
        self.work = path / "work"  # what only the build needs; removed when the run is finished
        self.again = self.work / ".again"  # what a repair makes, before it takes its place
        self.lock = path / ".lock"  # held by the process that builds the run

    def examples(self, shard: int) -> Path:
        """Ids and text of a shard's rows."""
        return self.path / "examples" / f"{shard:05d}.parquet"

    def index(self, shard: int) -> Path:
        """Whitened, encoded features of a shard's rows."""
        return self.path / "index" / f"{shard:05d}.safetensors"

    def hessian(self, block: int) -> Path:
        """One block of R_train."""
        return self.path / "hessian" / f"{block:02d}.safetensors"

    def whitening(self, block: int) -> Path:
        """The whitening of one block, with its eigenvalues and damping."""
        return self.path / "whitening" / f"{block:02d}.safetensors"

    def staged(self, shard: int) -> Path:
        """Ids, text and tokens of a shard's rows, from the planning pass."""
        return self.work / "rows" / f"{shard:05d}.parquet"

    def features(self, shard: int) -> Path:
        """Encoded features of a shard's rows, before whitening."""
        return self.work / "features" / f"{shard:05d}.safetensors"

    def hessian_part(self, span: int, block: int) -> Path:
        """Sums for one block of R_train over a span of shards."""
        return self.work / "hessian" / f"{span:05d}-{block:02d}.safetensors"

    def mark(self, task: str) -> Path:
        """Written when a task is done: what it counted, and the checksums of its files."""
        return self.work / "marks" / f"{task}.json"


def is_run(name: RunName) -> bool:
    """Whether a name is that of a run and not of a file: a folder or, in a store, one that was begun."""
    if is_url(name):
        folder = RunFolder(name)
        return folder.manifest.is_file() or folder.done.is_file()
    return os.path.isdir(name)
