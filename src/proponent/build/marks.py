"""Marks: a task's last file says that it is done, what it counted, and which checksums its files had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from proponent.errors import InputError
from proponent.files import called, read_checksummed_json, write_checksummed_json
from proponent.index.run import RunFolder

GONE = "if another process has finished the run, the same command says so; else it makes it again"
DAMAGED = "damaged (its checksum differs); remove it and run the same command again"


class Marks:
    """The marks of a run that is being built; files are compared with their checksums when first used."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._known: dict[str, dict[str, Any]] = {}
        self._checked: set[Path] = set()

    def write(self, task: str, checksums: Mapping[Path, str], **counts: Any) -> None:
        """Mark a task as done; checksums: of all files that it wrote, as they were written."""
        names = {file.relative_to(self.folder.path).as_posix(): found for file, found in checksums.items()}
        self._known[task] = {"checksums": names, **counts}
        self._checked.update(checksums)
        write_checksummed_json(self.folder.mark(task), self._known[task])

    def done(self, task: str) -> bool:
        """Whether a task is marked as done and none of its files was removed since."""
        has = self.folder.kept.has
        return has(self.folder.mark(task)) and all(map(has, self.files(task)))

    def read(self, task: str) -> dict[str, Any]:
        """What a task's mark says; InputError when it is damaged."""
        if task not in self._known:
            path = self.folder.mark(task)
            self._require(path)
            try:
                self._known[task] = read_checksummed_json(path)
            except InputError as error:
                raise InputError(f"{called(path)}: {DAMAGED}") from error
        return self._known[task]

    def files(self, task: str) -> dict[Path, str]:
        """The files of a task with their checksums."""
        return {self.folder.path / name: found for name, found in self.read(task)["checksums"].items()}

    def sound(self, task: str, file: Path) -> Path:
        """A file of a task, after its bytes were compared with the checksum once, or InputError."""
        if file not in self._checked:
            self._require(file)
            if not self.folder.kept.brings_sound(file, self.files(task)[file]):
                raise InputError(f"{called(file)}: {DAMAGED}")
            self._checked.add(file)
        return file

    def _require(self, path: Path) -> None:
        """Have a file here, or raise InputError where another machine has removed it."""
        if not self.folder.kept.brings(path):
            raise InputError(f"{called(path)}: missing; {GONE}")

    def checksums(self, tasks: Iterable[str]) -> dict[Path, str]:
        """Checksums of all files of some tasks, each compared with the file's bytes now."""
        found = {file: task for task in tasks for file in self.files(task)}
        return {self.sound(task, file): self.files(task)[file] for file, task in found.items()}
