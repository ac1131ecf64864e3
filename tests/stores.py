"""Runs in a store of this process's memory, which fails when it is told to, as seen from several machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

WRITES = ("put_file", "pipe_file")
RUN = "memory://bucket/run"


def kept(url: str = RUN) -> dict[str, bytes]:
    """Every file below a URL with its bytes."""
    fs, root = fsspec.core.url_to_fs(url)
    return {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}


def upload(folder: Path, url: str = RUN) -> str:
    """Copy the files of a folder to a store."""
    fs, root = fsspec.core.url_to_fs(url)
    for path in folder.rglob("*"):
        if path.is_file():
            fs.pipe_file(f"{root}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return url


@contextmanager
def machine(folder: Path) -> Iterator[Path]:
    """Be on a machine of its own, with an empty cache in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROPONENT_CACHE", str(folder))
        yield folder


@contextmanager
def at_each_write(act: Callable[[int], object]) -> Iterator[None]:
    """Call ``act`` before each write to the store with its number, from 0, and before each removal."""
    number = 0
    acting = False

    def acted(operation: Callable[..., Any], count: bool) -> Callable[..., Any]:
        def operate(*arguments: Any, **options: Any) -> Any:
            nonlocal number, acting
            if not acting:
                acting = True
                try:
                    act(number)
                finally:
                    acting = False
                number += count
            return operation(*arguments, **options)

        return operate

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(MemoryFileSystem, name, acted(getattr(MemoryFileSystem, name), True))
        patch.setattr(MemoryFileSystem, "rm", acted(MemoryFileSystem.rm, False))
        yield


def empty() -> None:
    """Forget all that the memory holds."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
