"""One query over an index larger than memory, against a plain read of its files.

    python benchmarks/opened.py FOLDER --gigabytes 3 --memory 1 --rounds 5

Makes an index of random rows in FOLDER, then, in turn and each in a process of its own, reads its shards as
plain files and opens it for one query, checksums included.  Before each, the files are dropped from the
system's cache, so that all comes from the disk.  With ``--memory`` the processes are held to so many
gigabytes by a control group, which needs the rights to make one; without them that is said, and only the
cache dropped.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from side_by_side import machine

from proponent.files import checksum, write_checksummed_json, write_json
from proponent.index.codec import encode
from proponent.index.manifest import FORMAT
from proponent.index.run import Index, RunFolder
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import search
from proponent.index.storage import write_tensors
from proponent.index.whitening import ScaledIdentity

DIM, BLOCKS, SHARD = 2**16, 16, 512
GROUPS = Path("/sys/fs/cgroup/memory")  # control groups, version 1
READ = 2**20  # bytes that the plain read takes at a time


def make(path: Path, gigabytes: float) -> Index:
    """An index of so many gigabytes of random rows; one that is there already is taken."""
    folder = RunFolder(path)
    if folder.done.is_file():
        return Index(path)
    spec = {"model": "none", "hessian": "identity", "size": 0, "seed": 0}
    made = {"corpus": {"passages": 0, "empty": 0, "fingerprint": ""}, "codec": "float16", "uncovered": {}}
    made |= {"model": "", "tokenizer": "", "made_with": {"versions": {}, "threads": 1}}
    blocks: dict[str, list[str]] = {f"block {b}": [] for b in range(BLOCKS)}
    write_json(folder.manifest, {"format": FORMAT, "spec": spec, **made, "side": 64, "blocks": blocks})
    files = [folder.manifest]
    for block in range(BLOCKS):
        files.append(folder.whitening(block))
        write_tensors(files[-1], ScaledIdentity(1.0, DIM // BLOCKS).pack())
    shards = max(1, round(gigabytes * 1e9 / (SHARD * DIM * 2)))
    for shard in range(shards):
        rows = torch.randn(SHARD, DIM, generator=torch.Generator().manual_seed(shard))
        files.append(folder.index(shard))
        write_tensors(files[-1], {**encode(rows), "feature_norm": rows.norm(dim=1)})
    known = {file.relative_to(path).as_posix(): checksum(file) for file in files}
    skipped = {"empty": 0, "too_short": 0, "not_finite": []}
    totals = {"rows": SHARD * shards, "shards": [SHARD] * shards, "tokens": 0, "skipped": skipped}
    totals["checksums"] = known
    write_checksummed_json(folder.done, totals)
    return Index(path)


def drop(path: Path) -> None:
    """Let the system forget the files of a folder."""
    for file in filter(Path.is_file, path.rglob("*")):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read(path: Path) -> float:
    """Seconds of reading all shards, and nothing else."""
    buffer, began = bytearray(READ), time.perf_counter()
    for file in sorted((path / "index").iterdir()):
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass
    return time.perf_counter() - began


def query(path: Path) -> float:
    """Seconds from opening the index to the answer of one query."""
    vector = torch.randn(1, DIM, generator=torch.Generator().manual_seed(1))
    began = time.perf_counter()
    index = Index(path)
    scan = QueryScan(QueryTerms(vector, index.whitening), InnerProduct("train", unit_norm=True))
    search(index.shards(), scan, 10)
    return time.perf_counter() - began


@contextmanager
def limited(gigabytes: float | None) -> Iterator[str]:
    """A control group of so much memory: its folder, or nothing where none can be made."""
    group, made = GROUPS / f"proponent-{os.getpid()}", gigabytes is not None
    try:
        if gigabytes is not None:
            group.mkdir()
            (group / "memory.limit_in_bytes").write_text(str(int(gigabytes * 1e9)), encoding="utf-8")
    except OSError as error:
        print(f"the memory is not limited ({error}); only the cache is dropped")
        made = False
    try:
        yield str(group) if made else ""
    finally:
        with suppress(OSError):
            group.rmdir()


def main() -> None:
    """Make the index, time both ways in turn and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=3)
    parser.add_argument("--memory", type=float)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", choices=["read", "query"], help=argparse.SUPPRESS)
    parser.add_argument("--group", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        if given.group:
            (Path(given.group) / "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")
        print({"read": read, "query": query}[given.part](given.folder))
        return
    index = make(given.folder, given.gigabytes)
    held = f"{given.memory:g} GB of memory" if given.memory else "no limit of memory"
    print(f"{len(index):,} rows of {DIM:,}, {len(index) * DIM * 2 / 1e9:.1f} GB of codes, {held}")
    print("| round | plain read, s | one query, s | query / read |")
    print("| ---: | ---: | ---: | ---: |")
    ratios = []
    with limited(given.memory) as group:
        for number in range(1, given.rounds + 1):
            found = []
            for part in ("read", "query"):
                drop(given.folder)
                words = [sys.executable, __file__, str(given.folder), "--part", part, "--group", group]
                done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
                found.append(float(done.stdout))
            ratios.append(found[1] / found[0])
            print(f"| {number} | {found[0]:.2f} | {found[1]:.2f} | {ratios[-1]:.2f} |", flush=True)
    print(f"median of the ratios {statistics.median(ratios):.2f}; {machine()}")


if __name__ == "__main__":
    main()
