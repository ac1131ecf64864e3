"""Files and folders of object stores (s3://, gs://, hf://): the one place that knows fsspec."""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from proponent.errors import InputError, first_line

URL = re.compile(r"([a-z][\w+.-]*::)*[a-z][\w+.-]+://", re.IGNORECASE)
COLLAPSED = re.compile(r"([a-z][\w+.-]*::)*[a-z][\w+.-]+:/", re.IGNORECASE)  # what Path makes of a URL
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}  # of this package, by protocol
BUFFER = 2**20  # bytes that lines are cut from
FULL = (errno.ENOSPC, errno.EDQUOT)


def is_url(name: str | os.PathLike[str]) -> bool:
    """Whether a name is that of something in a store, and not a path."""
    return URL.match(os.fspath(name)) is not None


def require_local(name: str | os.PathLike[str], why: str) -> None:
    """Raise InputError for a URL where only a path can be used; why: in words, and what to do."""
    if COLLAPSED.match(os.fspath(name)):
        raise InputError(f"{os.fspath(name)}: {why}")


def opened(place: str | Path) -> IO[bytes]:
    """A file, of a path or a URL, open to read its bytes.

    Raises OSError for a path, and InputError for a URL, that cannot be read.
    """
    if isinstance(place, Path):
        return place.open("rb")
    fs, path = _found(place)
    with _told(place, "read"):
        try:
            return io.BufferedReader(_Stream(fs.open(path, "rb"), place), BUFFER)
        except FileNotFoundError as error:
            raise InputError(f"{place}: no such file") from error


def size_of(place: str | Path) -> int:
    """Bytes of a file, of a path or a URL; 0 where its store does not tell; errors as of ``opened``."""
    if isinstance(place, Path):
        return place.stat().st_size
    fs, path = _found(place)
    with _told(place, "read"):
        return int(fs.size(path) or 0)


def files_at(url: str) -> list[str]:
    """The URLs of the files that a URL names: itself, or those that match its pattern, sorted.

    Raises InputError where there is none, for a folder, and for a store that cannot be asked.
    """
    fs, path = _found(url)
    with _told(url, "read"):
        fs.invalidate_cache()
        with suppress(FileNotFoundError):
            if fs.info(path)["type"] == "file":
                return [url]
            pattern = f"{url.rstrip('/')}/*.jsonl"
            raise InputError(f"{url}: a folder; name its files, by a pattern such as {pattern}")
        matches = fs.glob(path, detail=True) if set("*?[") & set(path) else {}
    found = sorted(match for match, info in matches.items() if info["type"] == "file")
    if not found:
        raise InputError(f"{url}: no such file, and no file matches it as a pattern")
    return [str(fs.unstrip_protocol(match)) for match in found]


class Place:
    """A folder of a store, by its URL; names of its files are relative to it, parted by slashes."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._fs, path = _found(self.url)
        self._path = path.rstrip("/")

    def read(self, name: str) -> bytes | None:
        """The bytes of a small file; None where there is none."""
        with _told(f"{self.url}/{name}", "read"):
            try:
                return bytes(self._fs.cat_file(self._at(name)))
            except FileNotFoundError:
                return None

    def get(self, name: str, to: Path) -> bool:
        """Copy a file to a path; False where there is none."""
        with _told(f"{self.url}/{name}", "read"):
            try:
                self._fs.get_file(self._at(name), str(to))
            except FileNotFoundError:
                return False
        return True

    def put(self, name: str, path: Path) -> None:
        """Copy the file at a path here, in place of what is there."""
        with _told(f"{self.url}/{name}", "written"):
            self._fs.put_file(str(path), self._at(name))

    def claim(self, name: str, content: bytes) -> bool:
        """Write a small file where there is none; False where there is one, if the store can tell."""
        with _told(f"{self.url}/{name}", "written"):
            try:
                self._fs.pipe_file(self._at(name), content, mode="create")
            except FileExistsError:
                return False
            except NotImplementedError:
                self._fs.pipe_file(self._at(name), content)
        return True

    def sizes(self) -> dict[str, int]:
        """Bytes of all files, by name."""
        with _told(self.url, "listed"):
            self._fs.invalidate_cache()
            found: dict[str, dict[str, Any]] = {}
            with suppress(FileNotFoundError):
                found = self._fs.find(self._path, detail=True)
            return {path.removeprefix(f"{self._path}/"): int(info["size"]) for path, info in found.items()}

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all in it, if it is there."""
        with _told(f"{self.url}/{name}", "removed"), suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            self._fs.rm(self._at(name), recursive=True)

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"


class _Stream(io.RawIOBase):
    """A file of a store as a plain stream of bytes, whose errors are told in one line."""

    def __init__(self, file: Any, url: str) -> None:
        self._file, self._url = file, url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def readinto(self, buffer: Any) -> int:
        with _told(self._url, "read"):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _told(self._url, "read"):
            return int(self._file.seek(offset, whence))

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _found(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it; InputError where there is none for it."""
    import fsspec

    protocol = url.split("://")[0].split("::")[-1].lower()
    options = {"auto_mkdir": True} if protocol in ("file", "local") else {}
    try:
        fs, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        needed = f"pip install 'proponent[{EXTRAS[protocol]}]'" if protocol in EXTRAS else first_line(error)
        raise InputError(f"{url}: a package is missing for {protocol}://; install it: {needed}") from error
    except Exception as error:  # what a store makes of an address, and of settings that it finds
        raise InputError(f"{url}: not an address that can be used ({first_line(error)})") from error
    return fs, str(path)


@contextmanager
def _told(url: str, done: str) -> Iterator[None]:
    """Tell in one line what a store, or the way to it, made of a request; of a full disk here others tell."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # stores raise what they like
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        remedy = "check the address, your credentials for it and the network"
        raise InputError(f"{url}: cannot be {done} ({first_line(error)}); {remedy}") from error
