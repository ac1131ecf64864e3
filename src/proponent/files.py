"""Files that appear whole or not at all, and the checksums that tell whether they still are."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import xxhash

from proponent.errors import InputError

try:
    import fcntl
except ImportError:  # not there on Windows
    fcntl = None  # type: ignore[assignment]

CHECKSUM_BYTES = 2**20  # read at a time
SURROGATES = "backslashreplace"  # a lone one, which UTF-8 cannot hold, becomes JSON's own escape of it


class Sender(Protocol):
    """What keeps the files of a folder elsewhere, too."""

    def send(self, part: Path, path: Path) -> None:
        """Keep what was written at ``part``, which afterwards gets the name ``path`` here."""

    def called(self, path: Path) -> str:
        """What a user calls a file of the folder."""


_senders: dict[Path, Sender] = {}  # by their folders


def sent_by(folder: Path, sender: Sender) -> None:
    """From now on, in this process, every file that is written whole below a folder is sent as well."""
    _senders[folder] = sender


def called(path: Path) -> str:
    """What a user calls a file: its path, or where it is kept if that is elsewhere."""
    sender = _sender_of(path)
    return sender.called(path) if sender else str(path)


def _sender_of(path: Path) -> Sender | None:
    return next((_senders[folder] for folder in path.parents if folder in _senders), None)


@contextmanager
def written_whole(path: Path, note: Callable[[str], object] | None = None) -> Iterator[Path]:
    """A path to write to that becomes ``path`` when the block ends well and vanishes when it does not.

    Written aside, synced, renamed: a reader sees the old file, or none, or the whole new one.  Of several
    processes that write the same path the last to rename wins.
    note: called with the checksum before the file gets its name.
    Raises InputError when the disk is full.
    """
    sender = _sender_of(path)
    with renamed(path) as part:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        if note is not None:
            note(checksum(part))
        if sender is not None:
            sender.send(part, path)


@contextmanager
def renamed(path: Path) -> Iterator[Path]:
    """A path to write to that becomes ``path`` when the block ends well; errors as ``written_whole``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = aside(path)
    try:
        yield part
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = f"{path}: no space left on the disk"
        raise InputError(f"{full}; free some and start again, what is done is kept") from error
    finally:
        part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def aside(path: Path) -> Path:
    """A new name beside ``path`` to write to, which no other process uses; a killed one leaves its file."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")


def is_aside(path: Path) -> bool:
    """Whether ``aside`` made this name: a file that is being written, or that a killed process left."""
    return path.name.startswith(".") and path.suffix == ".part"


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object, readable by people: indented, keys in their given order."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with written_whole(path) as part:
        part.write_bytes(text.encode("utf-8", SURROGATES))


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as JSON lines, whole or not at all; what JSON has no word for is written as text."""
    with written_whole(path) as aside, open(aside, "w", encoding="utf-8", errors=SURROGATES) as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; ValueError for what is none, or is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object; InputError when it is damaged."""
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{called(path)}: damaged ({error}); build the run again") from error
    if not isinstance(value, dict):
        raise InputError(f"{called(path)}: damaged (not a JSON object); build the run again")
    return value


def write_checksummed_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object with a checksum of itself."""
    write_json(path, {**value, "checksum": content_checksum(value)})


def read_checksummed_json(path: Path) -> dict[str, Any]:
    """Read what ``write_checksummed_json`` wrote, without the checksum; InputError when it is damaged."""
    value = read_json(path)
    if value.pop("checksum", None) != content_checksum(value):
        raise InputError(f"{called(path)}: damaged (its checksum differs); build the run again")
    return value


def content_checksum(value: Mapping[str, Any]) -> str:
    """The checksum that a JSON object holds of itself, over the object without it."""
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())


def checksum(path: Path) -> str:
    """XXH3 (128 bits) of a file's bytes, in hex: against damage, not malice.  An OSError names the file."""
    found, buffer = xxhash.xxh3_128(), memoryview(bytearray(CHECKSUM_BYTES))
    try:
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                found.update(buffer[:count])
    except OSError as error:
        error.filename = str(path)
        raise
    return found.hexdigest()


@contextmanager
def locked(
    path: Path, complaint: str, shared: bool = False, wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold a lock file, made with its folder, and remove it at the end; InputError where another holds it.

    The system frees the lock of a process that dies, and the file that it leaves can be locked again.
    Where there are no such locks nothing is done.
    shared: with others that ask for the same; the file is left.  wait: called, instead of the error, before
    each further try.
    """
    if fcntl is None:
        yield
        return
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(path, complaint, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, wait)
    try:
        yield
    finally:
        try:
            if not shared:
                path.unlink(missing_ok=True)
            if made:
                with suppress(OSError):  # a run is in it, as it should be
                    path.parent.rmdir()
        finally:
            os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds this lock file, which is there; no where there are no such locks."""
    if fcntl is None:
        return False
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


def _lock(path: Path, complaint: str, kind: int, wait: Callable[[], None] | None) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            if wait is None:
                raise InputError(complaint) from error
            wait()
            continue
        except OSError:
            return descriptor  # a file system without locks
        # whoever held it may have removed it in between: then this is the lock of no file
        if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
        os.close(descriptor)
