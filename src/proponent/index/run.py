"""The RUN folder: where every file of a run lies, and a finished run opened for search."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from torch import Tensor

from proponent.errors import InputError
from proponent.files import checksum, read_json, read_sealed_json
from proponent.index.hessian import Hessian, damped_eigenvalues, mirror, unpack_triangles
from proponent.index.search import Piece
from proponent.index.storage import (
    read_table,
    read_tensors,
)

FORMAT = 2
COLUMNS = ("codes", "scale", "whitened_norm", "feature_norm")


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run's files; docs/format.md describes their bytes."""

    path: Path

    @property
    def manifest(self) -> Path:
        """What the run is made of; written first."""
        return self.path / "run.json"

    @property
    def moments(self) -> Path:
        """Second moments of every matrix."""
        return self.path / "moments.safetensors"

    @property
    def hessian(self) -> Path:
        """R_train."""
        return self.path / "hessian.safetensors"

    @property
    def whitening(self) -> Path:
        """Cholesky factors of the damped R_train."""
        return self.path / "whitening.safetensors"

    @property
    def spectrum(self) -> Path:
        """Eigenvalues of R_train, and the damping of its blocks."""
        return self.path / "spectrum.safetensors"

    @property
    def done(self) -> Path:
        """Totals and checksums; written last, its presence says that the run is finished."""
        return self.path / "done.json"

    @property
    def raw(self) -> Path:
        """Folder of features before whitening; gone when the run is finished."""
        return self.path / "raw"

    @property
    def lock(self) -> Path:
        """Held by the process that builds the run; gone when none does."""
        return self.path / ".lock"

    def seal(self, file: Path) -> Path:
        """Checksum of a file of an unfinished run, from when it was written; gone with ``raw``."""
        return self.raw / f"{file.relative_to(self.path).as_posix().replace('/', '-')}.json"

    def examples(self, shard: int) -> Path:
        """Ids and text of a shard's passages."""
        return self.path / "examples" / f"{shard:05d}.parquet"

    def index(self, shard: int) -> Path:
        """Whitened, encoded features of a shard's passages."""
        return self.path / "index" / f"{shard:05d}.safetensors"

    def raw_features(self, shard: int) -> Path:
        """Encoded features of a shard's passages, before whitening."""
        return self.raw / f"{shard:05d}.safetensors"

    def raw_marker(self, shard: int) -> Path:
        """Counts and checksums of a raw shard; its presence says that the shard is finished."""
        return self.raw / f"{shard:05d}.json"


@dataclass(frozen=True)
class Passage:
    """One row of the index: a passage, or a chunk of a long one.

    id: the chunk's.  source: the passage's id in the corpus, the same unless it was cut.
    """

    id: str
    source: str
    text: str


class Index:
    """A finished run, open for search.  Files are checked against their checksums when first read.

    Raises InputError when ``path`` is no run, is unfinished, of another format version or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = RunFolder(Path(path))
        if not self.folder.manifest.is_file():
            raise InputError(f"{path}: not a run (no run.json); make one with: proponent index CORPUS {path}")
        if not self.folder.done.is_file():
            raise InputError(f"{path}: this run is unfinished; run the same 'proponent index' again to go on")
        self.summary = read_sealed_json(self.folder.done)
        self._checked: set[Path] = set()
        self.manifest = read_json(self._sound(self.folder.manifest))
        if self.manifest.get("format") != FORMAT:
            raise InputError(
                f"{path}: run format {self.manifest.get('format')}, this version reads format {FORMAT}; "
                "build the run again"
            )

    @property
    def spec(self) -> Mapping[str, Any]:
        """The FeatureSpec that the run was made with, as plain values."""
        spec: Mapping[str, Any] = self.manifest["spec"]
        return spec

    @property
    def blocks(self) -> int:
        """Number of blocks b."""
        return len(self.manifest["blocks"])

    @property
    def dim(self) -> int:
        """Coordinates of a feature, b * p * p."""
        return self.blocks * int(self.manifest["side"]) ** 2

    def __len__(self) -> int:
        """Rows: passages and chunks that can be found."""
        return int(self.summary["rows"])

    @cached_property
    def factors(self) -> tuple[Tensor, ...]:
        """Cholesky factors L [w, w] of the damped R_train, by block."""
        return unpack_triangles("factor", read_tensors(self._sound(self.folder.whitening)))

    @cached_property
    def moments(self) -> dict[str, Tensor]:
        """Second moments as packed tensors."""
        return read_tensors(self._sound(self.folder.moments))

    @cached_property
    def eigenvalues(self) -> Tensor:
        """Eigenvalues [b, w] of the damped R_train, descending in each block."""
        return damped_eigenvalues(self.spectrum, self.dampings)

    @cached_property
    def dampings(self) -> Tensor:
        """Damping of each block [b], relative to its mean eigenvalue."""
        return read_tensors(self._sound(self.folder.spectrum))["dampings"]

    @cached_property
    def spectrum(self) -> Tensor:
        """Eigenvalues [b, w] of the undamped R_train, descending in each block."""
        return read_tensors(self._sound(self.folder.spectrum))["eigenvalues"]

    def hessian(self) -> Hessian:
        """R_train, undamped."""
        tensors = read_tensors(self._sound(self.folder.hessian))
        triangles = unpack_triangles("block", tensors)
        return Hessian(tuple(mirror(triangle) for triangle in triangles), len(self), tensors["fourth"])

    def pieces(self) -> Iterator[Piece]:
        """All rows in corpus order, a shard at a time, as they are stored."""
        first = 0
        for shard, rows in enumerate(self.summary["shards"]):
            if rows:  # a shard whose gradients were all broken has none
                stored = read_tensors(self._sound(self.folder.index(shard)))
                yield Piece(first, *(stored[name] for name in COLUMNS))
            first += rows

    def rows(self) -> Iterator[Passage]:
        """All passages in the order of the rows."""
        for shard in range(len(self.summary["shards"])):
            for row in read_table(self._sound(self.folder.examples(shard))).to_pylist():
                yield Passage(row["id"], row["source"], row["text"])

    def passages(self, positions: Sequence[int]) -> dict[int, Passage]:
        """The passages at these positions; each shard's text is read once."""
        starts = [0, *accumulate(self.summary["shards"])]
        by_shard: dict[int, list[int]] = {}
        for position in sorted(set(positions)):
            by_shard.setdefault(bisect.bisect_right(starts, position) - 1, []).append(position)
        found = {}
        for shard, members in by_shard.items():
            table = read_table(self._sound(self.folder.examples(shard)))
            for position in members:  # by slices, since pyarrow imports pandas to take a list of rows
                row = table.slice(position - starts[shard], 1).to_pylist()[0]
                found[position] = Passage(row["id"], row["source"], row["text"])
        return found

    def size(self) -> int:
        """Bytes on disk of all its files."""
        files = [self.folder.done, *(self.folder.path / name for name in self.summary["checksums"])]
        return sum(file.stat().st_size for file in files)

    def check(self) -> int:
        """Compare every file with its checksum; the number of files, or InputError for the first bad one."""
        for name in self.summary["checksums"]:
            self._sound(self.folder.path / name)
        return len(self.summary["checksums"])

    def _sound(self, path: Path) -> Path:
        """The path, after its bytes were compared with the checksum once."""
        if path not in self._checked:
            name = path.relative_to(self.folder.path).as_posix()
            if not path.is_file():
                raise InputError(f"{path}: missing; build the run again")
            if checksum(path) != self.summary["checksums"].get(name):
                raise InputError(f"{path}: damaged (its checksum differs); build the run again")
            self._checked.add(path)
        return path
