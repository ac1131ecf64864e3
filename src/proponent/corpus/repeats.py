"""Repeated ids, found in memory that does not grow with the number of ids."""

from __future__ import annotations

from contextlib import ExitStack
from hashlib import blake2b
from tempfile import SpooledTemporaryFile
from typing import IO

import numpy as np

from proponent.errors import InputError

BUCKETS = 64  # open files at a time; one bucket of 16-byte digests is sorted in memory at a time
BUCKET_IN_MEMORY = 1 << 16  # bytes of a bucket before it goes to disk
DIGEST = 16  # bytes: two different ids of a corpus share one with probability below 1e-18


def repeated_id(id: str, first: str, second: str, remedy: str) -> InputError:
    """The error for an id that two records have; first and second are their places."""
    return InputError(f"{second}: the id {id!r} was already given at {first}; {remedy}")


def digest_of(id: str) -> bytes:
    return blake2b(id.encode(), digest_size=DIGEST).digest()


def stem_of(id: str) -> str:
    """``STEM`` of an id ``STEM#N``, as the chunks of a long passage have; empty for another id."""
    stem, _, number = id.rpartition("#")
    return stem if number.isascii() and number.isdecimal() else ""


class IdDigests(ExitStack):
    """Digests of ids, in files open in its context; finds those added twice and those of others' chunks."""

    def __init__(self) -> None:
        super().__init__()
        self._buckets = [self._file() for _ in range(BUCKETS)]
        self._stems = [self._file() for _ in range(BUCKETS)]  # of ids STEM#N: the digests of STEM and STEM#N

    def _file(self) -> IO[bytes]:
        return self.enter_context(SpooledTemporaryFile(max_size=BUCKET_IN_MEMORY))

    def add(self, id: str) -> None:
        digest = digest_of(id)
        self._buckets[digest[0] % BUCKETS].write(digest)
        if stem := stem_of(id):
            of_stem = digest_of(stem)
            self._stems[of_stem[0] % BUCKETS].write(of_stem + digest)

    def repeated(self) -> set[bytes]:
        """Digests that were added more than once: all those of the first bucket that has any."""
        for bucket in self._buckets:
            halves = np.frombuffer(_content(bucket), dtype=">u8").reshape(-1, 2)  # [ids, 2]
            halves = halves[np.lexsort((halves[:, 1], halves[:, 0]))]
            same = (halves[1:] == halves[:-1]).all(axis=1)
            if same.any():
                return {row.tobytes() for row in halves[1:][same]}
        return set()

    def namesakes(self) -> set[bytes]:
        """Digests of the ids ``STEM#N`` whose ``STEM`` was added too: usually none."""
        found: set[bytes] = set()
        for bucket, stems in zip(self._buckets, self._stems, strict=True):
            ids, pairs = (np.frombuffer(_content(file), dtype=f"S{DIGEST}") for file in (bucket, stems))
            pairs = pairs.reshape(-1, 2)  # [ids, STEM and STEM#N]
            # numpy drops the zeros at the end of a byte string
            found.update(id.ljust(DIGEST, b"\0") for id in pairs[np.isin(pairs[:, 0], ids), 1].tolist())
        return found


def _content(bucket: IO[bytes]) -> bytes:
    bucket.seek(0)
    return bucket.read()
