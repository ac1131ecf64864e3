"""The folder that a name stands for: one of this machine, or the cache here of one in an object store."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile

from xxhash import xxh3_64_hexdigest

from proponent.errors import InputError
from proponent.files import checksum, is_aside, renamed, sent_by
from proponent.remote import Place, is_url

CACHE = "PROPONENT_CACHE"  # of the environment: the folder of all caches


class Folder:
    """A folder of this machine.

    name: what the user calls it.  everywhere: what it is called from any other folder of this machine.
    """

    def __init__(self, name: str | os.PathLike[str]) -> None:
        self.path = Path(name)
        self.name = str(self.path)
        self.everywhere = os.path.abspath(name)

    def has(self, path: Path) -> bool:
        """Whether a file is there."""
        return path.is_file()

    def holds(self, path: Path) -> bool:
        """Whether a folder, or anything in it, is there."""
        return path.exists()

    def vacant(self) -> bool:
        """Whether there is nothing in it, or what a build leaves that is killed before its first file."""
        if not self.path.exists():
            return True
        return self.path.is_dir() and all(is_aside(p) or p.name == ".lock" for p in self.path.iterdir())

    def fetch(self, path: Path) -> bool:
        """Copy a file from where it is kept; False where there is none, and where it is kept here alone."""
        return False

    def brings(self, path: Path) -> bool:
        """Whether a file is here, if need be after it was fetched."""
        return path.is_file() or self.fetch(path)

    def brings_sound(self, path: Path, wanted: str | None) -> bool:
        """Whether a file that is here has a checksum, if need be after it was fetched again."""
        return checksum(path) == wanted or (self.fetch(path) and checksum(path) == wanted)

    def fetch_all(self) -> None:
        """Have all files here."""

    def glob(self, pattern: str) -> list[Path]:
        """The files that match a pattern, sorted, whether or not they are here."""
        return sorted(self.path.glob(pattern))

    def left(self) -> list[Path]:
        """Locks that are there, and what killed processes had half written."""
        return [*self.path.glob(".lock"), *filter(is_aside, self.path.rglob(".*"))]

    def size(self, path: Path) -> int:
        """Bytes of a file that is there."""
        return path.stat().st_size

    def remove(self, path: Path) -> None:
        """Remove a file, or a folder with all in it, if it is there."""
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink(missing_ok=True)

    def require_writable(self, scratch: Path) -> None:
        """Raise InputError, before any work, where nothing can be written.  scratch: a folder of the work."""


class Mirror(Folder):
    """A folder of a store, with a cache here of what was read of it and written to it.

    A file is sent before it gets its name here, so the cache has nothing that the store has not; it is
    fetched when it is first needed.  Names with a hidden part (a lock, what is half written) stay here.
    first, last: names of the files that are written first and last.  The cache of another folder than is
    there now, by these files, is emptied.  Whoever reads a file compares it with its checksum.
    """

    def __init__(self, url: str, first: str, last: str) -> None:
        self._place, self._first = Place(url), first
        self.name = self.everywhere = self._place.url
        self.path = cache_of(self.name)
        sent_by(self.path, self)
        self._look(first, last)

    def _look(self, first: str, last: str) -> None:
        there = {name: self._place.read(name) for name in (first, last)}
        here = {name: _bytes(self.path / name) for name in there}
        if here[first] != there[first] or here[last] not in (None, there[last]):
            self._forget(first, last)
        for name, content in there.items():
            if content is not None and not (self.path / name).is_file():
                with renamed(self.path / name) as part:
                    part.write_bytes(content)

    def _forget(self, *final: str) -> None:
        """Empty the cache; what tells whose it is goes last, so that one killed at it goes on."""
        final_paths = [self.path / name for name in final]
        for path in [*(p for p in self._here() if p not in final_paths), *final_paths]:
            path.unlink(missing_ok=True)

    def _here(self) -> Iterator[Path]:
        """The files that are cached."""
        files = (path for path in self.path.rglob("*") if path.is_file() and not is_aside(path))
        return (path for path in list(files) if not self._hidden(path))

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Bytes of all files that were there when this was first asked; then the cache has no others."""
        here = list(self._here())  # before: another process may send files meanwhile
        found = {
            name: size for name, size in self._place.sizes().items() if not self._hidden(self.path / name)
        }
        for path in here:
            if self._name(path) not in found:
                path.unlink(missing_ok=True)
        return found

    def has(self, path: Path) -> bool:
        """Whether a file was there when this was first asked, or was written since by this machine."""
        return self._name(path) in self._sizes or path.is_file()

    def holds(self, path: Path) -> bool:
        """Whether anything in a folder was there when this was first asked."""
        return any(name.startswith(f"{self._name(path)}/") for name in self._sizes)

    def vacant(self) -> bool:
        """Whether there is nothing that could be anybody's."""
        return not self._sizes

    def fetch(self, path: Path) -> bool:
        """Copy a file from the store, in place of what is cached; False where there is none."""
        try:
            with renamed(path) as part:
                if not self._place.get(self._name(path), part):
                    raise FileNotFoundError
        except FileNotFoundError:
            path.unlink(missing_ok=True)
            return False
        return True

    def fetch_all(self) -> None:
        """Have all files here that were there when this was first asked."""
        for name in self._sizes:
            if not (self.path / name).is_file():
                self.fetch(self.path / name)

    def left(self) -> list[Path]:
        """None: what the cache has of that is no part of the folder."""
        return []

    def glob(self, pattern: str) -> list[Path]:
        """The files that match a pattern of as many parts as their names have."""
        parts = len(PurePosixPath(pattern).parts)
        names = (PurePosixPath(name) for name in self._sizes)
        return sorted(self.path / name for name in names if len(name.parts) == parts and name.match(pattern))

    def size(self, path: Path) -> int:
        """Bytes of a file that is there."""
        return self._sizes.get(self._name(path), 0)

    def remove(self, path: Path) -> None:
        """Remove a file, or a folder with all in it, there and here."""
        self._place.remove(self._name(path))
        super().remove(path)

    def require_writable(self, scratch: Path) -> None:
        """Send an empty file, which is removed with its folder."""
        with NamedTemporaryFile() as empty:
            self._place.put(f"{self._name(scratch)}/.writable", Path(empty.name))

    def send(self, part: Path, path: Path) -> None:
        """Keep a file there.

        The first of all is not written over another's: of two machines that begin at once one goes on as the
        other began, with its number of threads, or is refused.
        """
        if self._hidden(path):
            return
        name = self._name(path)
        if name != self._first or path.is_file():
            self._place.put(name, part)
        elif not self._place.claim(name, part.read_bytes()) and self._place.read(name) != part.read_bytes():
            raise InputError(
                f"{self.name}: another machine has just begun this run, with other threads or versions; run "
                "the same command again to go on with it"
            )

    def called(self, path: Path) -> str:
        """The URL of a file."""
        return f"{self.name}/{path.relative_to(self.path).as_posix()}"

    def _hidden(self, path: Path) -> bool:
        return any(part.startswith(".") for part in path.relative_to(self.path).parts)

    def _name(self, path: Path) -> str:
        """What the store calls a file; InputError for one elsewhere, as a forged run could name it."""
        if not path.is_relative_to(self.path) or ".." in path.parts:
            raise InputError(
                f"{self.name}: names the file {path}, which is outside of it; it was tampered with"
            )
        return path.relative_to(self.path).as_posix()


def folder_of(name: str | os.PathLike[str], first: str, last: str) -> Folder:
    """The folder that a path or a URL names; first, last: as of ``Mirror``."""
    return Mirror(os.fspath(name), first, last) if is_url(name) else Folder(name)


def cache_of(url: str) -> Path:
    """The folder of a URL's cache."""
    home = os.environ.get(CACHE) or _platform_cache() / "proponent"
    return Path(home).absolute() / "runs" / f"{PurePosixPath(url).name}-{xxh3_64_hexdigest(url.encode())}"


def _platform_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
