"""A finished run, opened for search."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proponent.errors import InputError
from proponent.files import called
from proponent.index.codec import Rows, stored_rows
from proponent.index.damping import check_damping, damped_eigenvalues
from proponent.index.folder import RunFolder as RunFolder
from proponent.index.folder import RunName as RunName
from proponent.index.hessian import HessianBlock
from proponent.index.manifest import ANEW, COMPACTED, MADE_WITH, REPAIR, SAMPLE, read_manifest, read_totals
from proponent.index.search import Shard
from proponent.index.sketch import Sketch, sketch_of
from proponent.index.storage import TEXT, read_ahead, read_table, read_tensors
from proponent.index.whitening import BlockWhitening, Rewhitening, Whitening, unpack_block
from proponent.threads import one_ahead

PASSAGE = {"id": TEXT, "source": TEXT, "text": TEXT}  # columns of a file of passages


@dataclass(frozen=True)
class Passage:
    """One row of the index: a passage, or a chunk of a long one.

    id: the chunk's.  source: the passage's id in the corpus, the same unless it was cut.
    """

    id: str
    source: str
    text: str


class Index:
    """A finished run, open for search; files are compared with their checksums when first read,
    and again once they changed.

    damping: in place of the run's: a positive number, relative to each block's mean eigenvalue, or a rule's
    name; rows are then whitened anew as they are read.
    Raises InputError when ``path`` is no run, is unfinished, of another format version or damaged, and for a
    damping that cannot be used.
    """

    def __init__(self, path: RunName, damping: float | str | None = None) -> None:
        self.folder, self.damping = RunFolder(path), damping
        if damping is not None:
            check_damping(damping)
        if not self.folder.manifest.is_file():
            raise InputError(f"{path}: not a run (no run.json); make one with: proponent index CORPUS {path}")
        self.manifest = read_manifest(self.folder)
        if not self.folder.done.is_file():
            verb = "compact" if COMPACTED in self.manifest else "index"
            raise InputError(
                f"{path}: this run is unfinished; run the same 'proponent {verb}' again to go on"
            )
        self.summary = read_totals(self.folder)
        self._checked: dict[Path, tuple[int, int]] = {}  # size and time of change when last compared
        self.sound(self.folder.manifest)
        if damping is not None and self.white:
            raise InputError(f"{path}: this run has no R_train that could be damped; it takes the identity")
        if damping is not None and self.sketch is not None:
            raise InputError(f"{path}: rows of signs cannot be whitened anew; compact the full run so damped")

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

    @property
    def white(self) -> bool:
        """Whether R_train is taken for the identity, but for a number a block."""
        return bool(self.spec["hessian"] == "identity")

    @cached_property
    def sketch(self) -> Sketch | None:
        """What the rows of a compact index are signs of; None for a full one."""
        return sketch_of(self.spec, self.blocks, self.dim // self.blocks)

    @cached_property
    def whitening(self) -> Whitening:
        """The whitening of all blocks, with the given damping or the run's."""
        blocks = tuple(self._redamped or map(unpack_block, self._blocks(self.folder.whitening)))
        return Whitening(blocks, self.sketch)

    @cached_property
    def _redamped(self) -> list[BlockWhitening]:
        """The whitening of all blocks with the given damping; empty where that is the run's."""
        if self.damping is None:
            return []
        stored = map(BlockWhitening.unpack, self._blocks(self.folder.whitening))
        blocks = zip(self.hessian(), stored, strict=True)
        return [BlockWhitening.of(block, self.damping, old.eigenvalues) for block, old in blocks]

    @cached_property
    def _rewhitening(self) -> Rewhitening | None:
        if not self._redamped:
            return None
        stored = list(map(BlockWhitening.unpack, self._blocks(self.folder.whitening)))
        return Rewhitening.between(stored, self._redamped)

    @property
    def sample(self) -> list[str]:
        """Ids of the rows that second moments were sampled on; InputError for a run that does not say."""
        found = self.manifest[MADE_WITH].get(SAMPLE)
        if found is None:
            raise InputError(f"{self.folder.name}: does not say what its second moments are of; {ANEW}")
        return list(found)

    def spectrum(self) -> Tensor:
        """Eigenvalues [b, w] of the damped R_train, descending in each block; no factor is read for them."""
        if self._redamped or self.white:
            return self.whitening.eigenvalues
        stored = self._blocks(self.folder.whitening)
        return torch.stack([damped_eigenvalues(block["eigenvalues"], block["damping"]) for block in stored])

    def hessian(self) -> Iterator[HessianBlock]:
        """R_train, undamped, block by block."""
        return map(HessianBlock.unpack, self._blocks(self.folder.hessian))

    @cached_property
    def moments(self) -> dict[str, Tensor]:
        """Second moments as packed tensors."""
        return self._kept(self.folder.moments)

    @cached_property
    def sides(self) -> dict[str, Tensor]:
        """Projections with second moments folded in, as packed tensors."""
        return self._kept(self.folder.sides)

    def shards(self, numbers: Container[int] | None = None) -> Iterator[Shard]:
        """All rows in corpus order, a shard at a time, or those of the shards of some numbers.

        The next is read and checked while one is used.
        """
        wanted = (part for part in self._filled() if numbers is None or part[0] in numbers)
        filled = one_ahead(wanted, lambda shard: read_ahead(self.sound(self.folder.index(shard[0]))))
        return (self.shard(number, first) for number, first, _ in filled)

    def only(self, positions: Tensor) -> Iterator[Shard]:
        """The rows at ascending positions [m], from the shards that have any; there they are rows 0 to m."""
        for number, first, count in self._filled():
            begin, end = torch.searchsorted(positions, torch.tensor([first, first + count])).tolist()
            if begin < end:
                yield self.shard(number, first).only(positions[begin:end] - first, begin)

    def _filled(self) -> Iterator[tuple[int, int, int]]:
        """Number, first position and rows of the shards; one whose gradients were all broken has none."""
        counts = self.summary["shards"]
        firsts = accumulate(counts, initial=0)
        return (
            (number, first, n) for number, (first, n) in enumerate(zip(firsts, counts, strict=False)) if n
        )

    def shard(self, number: int, first: int = 0) -> Shard:
        """The rows of one shard, whose positions begin at ``first``."""
        stored = read_tensors(self.sound(self.folder.index(number)))
        rows = stored_rows(stored)
        if self._rewhitening and isinstance(rows, Rows):
            rows = Rows.in_memory(self._rewhitening(rows.decode()))
        return Shard(first, rows, stored["feature_norm"])

    def rows(self) -> Iterator[Passage]:
        """All passages in the order of the rows."""
        for shard in range(len(self.summary["shards"])):
            for row in read_table(self.sound(self.folder.examples(shard)), PASSAGE).to_pylist():
                yield Passage(**row)

    def passages(self, positions: Sequence[int]) -> dict[int, Passage]:
        """The passages at these positions; each shard's text is read once."""
        starts = [0, *accumulate(self.summary["shards"])]
        by_shard: dict[int, list[int]] = {}
        for position in sorted(set(positions)):
            by_shard.setdefault(bisect.bisect_right(starts, position) - 1, []).append(position)
        found = {}
        for shard, members in by_shard.items():
            table = read_table(self.sound(self.folder.examples(shard)), PASSAGE)
            for position in members:  # by slices, since pyarrow imports pandas to take a list of rows
                (row,) = table.slice(position - starts[shard], 1).to_pylist()
                found[position] = Passage(**row)
        return found

    def size(self) -> int:
        """Bytes on disk of all its files."""
        files = [self.folder.done, *(self.folder.path / name for name in self.summary["checksums"])]
        return sum(map(self.folder.kept.size, files))

    def check(self) -> int:
        """Compare every file with its checksum; the number of files, or InputError for the first bad one."""
        for name in self.summary["checksums"]:
            self.sound(self.folder.path / name)
        return len(self.summary["checksums"])

    def _blocks(self, place: Callable[[int], Path]) -> Iterator[dict[str, Tensor]]:
        return (read_tensors(self.sound(place(b))) for b in range(self.blocks))

    def _kept(self, path: Path) -> dict[str, Tensor]:
        """Tensors that are used long after they were read: copies, as a mapped file can change meanwhile."""
        return {name: tensor.clone() for name, tensor in read_tensors(self.sound(path)).items()}

    def sound(self, path: Path) -> Path:
        """A file's path, after its bytes were compared with the checksum, once for each change of it."""
        kept = self.folder.kept
        if not kept.brings(path):
            raise InputError(f"{called(path)}: missing; {REPAIR}")
        if self._checked.get(path) != _state(path):
            wanted = self.summary["checksums"].get(path.relative_to(self.folder.path).as_posix())
            if not kept.brings_sound(path, wanted):
                raise InputError(f"{called(path)}: damaged (its checksum differs); {REPAIR}")
            self._checked[path] = _state(path)
        return path


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
