"""Whether a run is as it was made: every checksum, and what every file must hold beside the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from proponent.build.folder import is_being_built
from proponent.build.holdings import damage, misfits, name_in
from proponent.build.marks import Marks
from proponent.errors import InputError
from proponent.files import called, is_aside
from proponent.index.manifest import ANEW, COMPACTED, read_manifest
from proponent.index.run import Index, RunFolder, RunName
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


def check(run: RunName, progress: Progress | None = None) -> Soundness:
    """Verify a run: checksums, shapes, finite norms, totals, spec and blocks, and what a build left behind.

    InputError for what is no run at all.
    """
    folder = RunFolder(run)
    if not folder.manifest.is_file() and not folder.done.is_file():
        raise InputError(f"{run}: not a run (no run.json); make one with: proponent index CORPUS {run}")
    if not folder.done.is_file():
        return Soundness(str(run), 0, tuple(_of_unfinished(folder)))
    try:
        index = Index(folder.name)
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
    for path in folder.kept.glob("work/marks/*.json"):
        folder.kept.fetch(path)
        try:
            files = marks.files(path.stem)
        except InputError:
            yield Finding(name_in(folder, path), "damaged (its checksum differs)", REMOVE)
            continue
        for file, expected in files.items():
            wrong = damage(folder, name_in(folder, file), expected)
            if wrong and wrong != "missing":  # what is missing is made anyway
                yield Finding(name_in(folder, file), wrong, REMOVE)


def _of_totals(folder: RunFolder, error: InputError) -> Iterator[Finding]:
    """What keeps a finished run from being opened."""
    words = _words(folder, error)
    name = "done.json" if called(folder.done) in str(error) else "run.json"
    yield Finding(name, words, ANEW if "run format" in words else AGAIN)


def _of_file(index: Index, name: str) -> Iterator[Finding]:
    expected = index.summary["checksums"][name]
    if wrong := damage(index.folder, name, expected):
        of_corpus = name.startswith("examples/") and COMPACTED not in index.manifest
        yield Finding(name, wrong, WITH_CORPUS if of_corpus else AGAIN)
        return
    try:
        for wrong in misfits(index, name):
            yield Finding(name, wrong, ANEW)
    except (InputError, LookupError, TypeError, ValueError, RuntimeError) as error:
        yield Finding(name, f"does not hold what it should ({error})", ANEW)


def _of_all(index: Index) -> Iterator[Finding]:
    """Whether done.json names the files that a run has, and adds up."""
    folder, summary = index.folder, index.summary
    shards, blocks = range(len(summary["shards"])), range(index.blocks)
    paths = [folder.manifest, folder.moments, folder.sides]
    paths += [place(n) for place in (folder.examples, folder.index) for n in shards]
    places = (folder.hessian, folder.whitening) if index.sketch is None else (folder.whitening,)
    paths += [place(b) for place in places for b in blocks]
    if {name_in(folder, path) for path in paths} != set(summary["checksums"]):
        yield Finding("done.json", "names other files than a run of its shards and blocks has", ANEW)
    if sum(summary["shards"]) != summary["rows"]:
        yield Finding("done.json", "its shards do not add up to its rows", ANEW)
    for place in TEXT_FOLDERS:
        for path in folder.kept.glob(f"{place}/*"):
            if not is_aside(path) and name_in(folder, path) not in summary["checksums"]:
                yield Finding(name_in(folder, path), "is no part of this run", "move it elsewhere")


def _leftovers(folder: RunFolder) -> Iterator[Finding]:
    """What a killed build left in a finished run."""
    if is_being_built(folder):
        yield Finding(".lock", "another process is working on this run", "wait until it is done")
        return
    work = [folder.work] if folder.kept.holds(folder.work) else []
    for path in sorted([*work, *folder.kept.left()]):
        if path == folder.work or not path.is_relative_to(folder.work):
            yield Finding(name_in(folder, path), "left by a process that was killed", AGAIN)


def _words(folder: RunFolder, error: InputError) -> str:
    """What an error says of a file, without its name and what to do."""
    return str(error).removeprefix(f"{folder.name}/").split(": ", 1)[-1].split("; ")[0]
