"""Whether a run is as it was made: every checksum, and what every file must hold beside the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proponent.build.folder import is_being_built
from proponent.build.marks import Marks
from proponent.build.plan import TEXTS
from proponent.errors import InputError
from proponent.files import checksum, is_aside
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import ANEW, COMPACTED, COPY, Index, RunFolder, read_manifest
from proponent.index.storage import read_table, read_tensors
from proponent.progress import Progress, Silent

AGAIN = "proponent check RUN --repair"
WITH_CORPUS = f"{AGAIN} --corpus CORPUS"
REMOVE = "remove it, or let --repair do so, and run the same command again to go on"
TEXT_FOLDERS = ("examples", "index", "hessian", "whitening")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    file: its name in the run.  wrong: what was found.  remedy: what to do about it.
    """

    file: str
    wrong: str
    remedy: str


@dataclass(frozen=True)
class Soundness:
    """What a check of a run found; printed, one line, or one for each finding.

    files: how many were compared with their checksums.  repaired: names of files that were made again.
    """

    run: str
    files: int
    findings: tuple[Finding, ...] = ()
    repaired: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def values(self) -> dict[str, Any]:
        """All of it as plain values."""
        found = [vars(finding) for finding in self.findings]
        made = list(self.repaired)
        return {
            "run": self.run,
            "sound": self.sound,
            "files": self.files,
            "findings": found,
            "repaired": made,
        }

    @property
    def line(self) -> str:
        """What is wrong, in one line; InputErrors are made of it."""
        named = ", ".join(finding.file for finding in self.findings[:3])
        more = f" and {len(self.findings) - 3} more" if len(self.findings) > 3 else ""
        return f"{self.run}: not sound: {named}{more}; {self.findings[0].remedy}"

    def __str__(self) -> str:
        made = [f"{name}: made again, with the same bytes as before" for name in self.repaired]
        if self.sound:
            return "\n".join([*made, f"{self.run}: sound, {self.files} files"])
        return "\n".join([*made, *(f"{f.file}: {f.wrong}; {f.remedy}" for f in self.findings)])


def check(run: str | Path, progress: Progress | None = None) -> Soundness:
    """Verify a run: checksums, shapes, finite norms, totals, spec and blocks, and what a build left behind.

    InputError for what is no run at all.
    """
    folder = RunFolder(Path(run))
    if not folder.manifest.is_file() and not folder.done.is_file():
        raise InputError(f"{run}: not a run (no run.json); make one with: proponent index CORPUS {run}")
    if not folder.done.is_file():
        return Soundness(str(run), 0, tuple(_of_unfinished(folder)))
    try:
        index = Index(folder.path)
    except InputError as error:
        return Soundness(str(run), 0, (*_of_totals(folder, error), *_leftovers(folder)))
    names = index.summary["checksums"]
    findings: list[Finding] = []
    with (progress or Silent()).stage("checking", len(names), "files") as advance:
        for name in names:
            findings += _of_file(index, name)
            advance(1)
    findings += [*_of_all(index), *_leftovers(folder)]
    return Soundness(str(run), len(names), tuple(findings))


def damage(folder: RunFolder, name: str, expected: str | None) -> str | None:
    """What is wrong with the bytes of a file of a run; None where they are those that were written."""
    path = folder.path / name
    if not path.is_file():
        return "missing"
    try:
        found = checksum(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if found == expected else "damaged (its checksum differs)"


def _of_unfinished(folder: RunFolder) -> Iterator[Finding]:
    if is_being_built(folder):
        yield Finding("done.json", "missing: the run is being built just now", "wait until it is done")
        return
    verb = "index"
    try:
        verb = "compact" if COMPACTED in read_manifest(folder) else verb
    except InputError as error:
        yield Finding("run.json", _words(folder, error), ANEW)
    go_on = f"run the same 'proponent {verb}' again to go on"
    yield Finding("done.json", "missing: this run is unfinished", go_on)
    marks = Marks(folder)
    for path in sorted((folder.work / "marks").glob("*.json")):
        try:
            files = marks.files(path.stem)
        except InputError:
            yield Finding(_name(folder, path), "damaged (its checksum differs)", REMOVE)
            continue
        for file, expected in files.items():
            wrong = damage(folder, _name(folder, file), expected)
            if wrong and wrong != "missing":  # what is missing is made anyway
                yield Finding(_name(folder, file), wrong, REMOVE)


def _of_totals(folder: RunFolder, error: InputError) -> Iterator[Finding]:
    """What keeps a finished run from being opened."""
    words = _words(folder, error)
    name = "done.json" if str(folder.done) in str(error) else "run.json"
    yield Finding(name, words, ANEW if "run format" in words else AGAIN)


def _of_file(index: Index, name: str) -> Iterator[Finding]:
    expected = index.summary["checksums"][name]
    if wrong := damage(index.folder, name, expected):
        yield Finding(name, wrong, WITH_CORPUS if name.startswith("examples/") else AGAIN)
        return
    try:
        for wrong in _VIEWS.get(name.split("/")[0].split(".")[0], _nothing)(index, name):
            yield Finding(name, wrong, ANEW)
    except (InputError, LookupError, TypeError, ValueError, RuntimeError) as error:
        yield Finding(name, f"does not hold what it should ({error})", ANEW)


def _nothing(index: Index, name: str) -> Iterable[str]:
    return ()


def _of_run(index: Index, name: str) -> Iterator[str]:
    FeatureSpec.from_dict(index.spec)
    if (copy := index.summary.get(COPY)) is not None and copy != read_manifest(index.folder):
        yield "differs from its copy in done.json"


def _of_examples(index: Index, name: str) -> Iterator[str]:
    table, rows = read_table(index.folder.path / name), index.summary["shards"][_number(name)]
    if tuple(table.column_names) != TEXTS:
        yield f"has the columns {', '.join(table.column_names)}, not {', '.join(TEXTS)}"
    if len(table) != rows:
        yield f"holds {len(table)} rows where done.json has {rows}"


def _of_index(index: Index, name: str) -> Iterator[str]:
    stored, n = _tensors(index, name), index.summary["shards"][_number(name)]
    shapes = {"codes": (n, index.dim), "scale": (n,), "norms": (n,), "feature_norm": (n,)}
    if index.sketch is not None:
        shapes |= {"codes": (n, index.sketch.size // 8), "residual": (n,)}
    yield from _shapes(stored, shapes)
    yield from _not_finite(stored)


def _of_hessian(index: Index, name: str) -> Iterator[str]:
    stored, width = _tensors(index, name), index.dim // index.blocks
    entries = {"triangle": (width * (width + 1) // 2,), "fourth": (1,), "count": (1,)}
    yield from _shapes(stored, {"trace": (3,)} if index.white else entries)
    yield from _not_finite(stored)
    rows = int(stored["trace"][2] if index.white else stored["count"][0])
    if rows != len(index):
        yield f"is the mean over {rows} rows where done.json has {len(index)}"


def _of_whitening(index: Index, name: str) -> Iterator[str]:
    stored, width = _tensors(index, name), index.dim // index.blocks
    entries = {"factor": (width * (width + 1) // 2,), "eigenvalues": (width,), "damping": (2,)}
    yield from _shapes(stored, {"identity": (2,)} if index.white else entries)
    yield from _not_finite(stored)


def _of_sides(index: Index, name: str) -> Iterator[str]:
    stored, side = _tensors(index, name), int(index.manifest["side"])
    yield from _names(stored, index, ("in", "out"))
    yield from (
        f"{key} has the shape {[*tensor.shape]}, and the projected side is {side}"
        for key, tensor in stored.items()
        if tensor.ndim != 2 or tensor.shape[1] != side
    )
    yield from _not_finite(stored)


def _of_moments(index: Index, name: str) -> Iterator[str]:
    stored = _tensors(index, name)
    yield from _names(stored, index, ("rows", "columns", "of_mean"))
    yield from _not_finite(stored)
    sides = _name(index.folder, index.folder.sides)
    if not damage(index.folder, sides, index.summary["checksums"].get(sides)):
        yield from _beside(index, stored, _tensors(index, sides))


def _beside(index: Index, stored: Mapping[str, Tensor], sides: Mapping[str, Tensor]) -> Iterator[str]:
    """What does not fit of second moments beside the projections that they are folded into."""
    for matrix in _matrices(index):
        found = [prod(stored[f"{matrix}/{part}"].shape) for part in ("columns", "rows")]
        expected = [len(sides[f"{matrix}/{part}"]) for part in ("in", "out")]
        if found != expected:
            yield f"{matrix} has moments of {found} inputs and outputs and sides of {expected}"


_VIEWS: Mapping[str, Callable[[Index, str], Iterable[str]]] = {
    "run": _of_run,
    "examples": _of_examples,
    "index": _of_index,
    "hessian": _of_hessian,
    "whitening": _of_whitening,
    "sides": _of_sides,
    "moments": _of_moments,
}


def _of_all(index: Index) -> Iterator[Finding]:
    """Whether done.json names the files that a run has, and adds up."""
    folder, summary = index.folder, index.summary
    shards, blocks = range(len(summary["shards"])), range(index.blocks)
    paths = [folder.manifest, folder.moments, folder.sides]
    paths += [place(n) for place in (folder.examples, folder.index) for n in shards]
    places = (folder.hessian, folder.whitening) if index.sketch is None else (folder.whitening,)
    paths += [place(b) for place in places for b in blocks]
    if {_name(folder, path) for path in paths} != set(summary["checksums"]):
        yield Finding("done.json", "names other files than a run of its shards and blocks has", ANEW)
    if sum(summary["shards"]) != summary["rows"]:
        yield Finding("done.json", "its shards do not add up to its rows", ANEW)
    for place in TEXT_FOLDERS:
        for path in sorted((folder.path / place).glob("*")):
            if not is_aside(path) and _name(folder, path) not in summary["checksums"]:
                yield Finding(_name(folder, path), "is no part of this run", "move it elsewhere")


def _leftovers(folder: RunFolder) -> Iterator[Finding]:
    """What a killed build left in a finished run."""
    if is_being_built(folder):
        yield Finding(".lock", "another process is working on this run", "wait until it is done")
        return
    paths = [path for path in (folder.work, folder.lock) if path.exists()]
    for path in sorted([*paths, *filter(is_aside, folder.path.rglob(".*"))]):
        if path == folder.work or not path.is_relative_to(folder.work):
            yield Finding(_name(folder, path), "left by a process that was killed", AGAIN)


def _tensors(index: Index, name: str) -> dict[str, Tensor]:
    return read_tensors(index.folder.path / name)


def _shapes(stored: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    found = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    if found != expected:
        yield f"holds {found} where the run has {dict(expected)}"


def _not_finite(stored: Mapping[str, Tensor]) -> Iterator[str]:
    broken = [name for name, tensor in stored.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        yield f"{', '.join(broken)} are not all finite"


def _names(stored: Mapping[str, Tensor], index: Index, parts: tuple[str, ...]) -> Iterator[str]:
    if set(stored) != {f"{matrix}/{part}" for matrix in _matrices(index) for part in parts}:
        yield "holds other matrices than run.json names"


def _matrices(index: Index) -> list[str]:
    """Names of the matrices of all blocks: those of their first modules."""
    return [name.split("+")[0] for names in index.manifest["blocks"].values() for name in names]


def _number(name: str) -> int:
    return int(Path(name).stem)


def _name(folder: RunFolder, path: Path) -> str:
    return path.relative_to(folder.path).as_posix()


def _words(folder: RunFolder, error: InputError) -> str:
    """What an error says of a file, without its name and what to do."""
    return str(error).removeprefix(f"{folder.path}/").split(": ", 1)[-1].split("; ")[0]
