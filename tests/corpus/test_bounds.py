"""Memory stays bounded whatever a file holds, and what is too long is named."""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proponent.corpus import Corpus
from proponent.corpus import records as readers
from proponent.errors import InputError

GIGABYTE = 2**30
# Reads the file named, in a process of its own: what it says, then how far its memory grew, in MiB.
READ = """
import resource, sys
from proponent.corpus import Corpus
import proponent.corpus.hub
def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = most()
try:
    print(sum(len(example.text) for example in Corpus.read(sys.argv[1], text_as=sys.argv[2])))
except ValueError as error:
    print(error)
print(most() - before)
"""


def packed_gigabyte(path: Path, start: bytes) -> Path:
    """A gigabyte of zeros and no line end, in a few megabytes: one packed part after another."""
    pack = gzip.compress if path.suffix == ".gz" else zstd
    zeros = pack(bytes([48]) * 2**24)
    with path.open("wb") as file:
        file.writelines([pack(start), *[zeros] * (GIGABYTE // 2**24)])
    assert path.stat().st_size < 2**21
    return path


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def read_apart(path: Path, text_as: str = "lines") -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path), text_as],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    said, grown = done.stdout.splitlines()
    return said, int(grown)


@pytest.mark.skipif(not hasattr(resource, "RUSAGE_SELF"), reason="needs the system's account of memory")
@pytest.mark.parametrize(
    ("name", "text_as", "start", "what"),
    [
        ("rows.jsonl.gz", "lines", b'{"text": "', "1: a line"),
        ("rows.jsonl.zst", "lines", b'{"text": "', "1: a line"),
        ("rows.csv.gz", "lines", b'id,text\n1,"', "2: a line"),
        ("rows.txt.gz", "documents", b"", "1: a document"),
    ],
)
def test_a_gigabyte_without_a_line_end_is_refused(
    tmp_path: Path, name: str, text_as: str, start: bytes, what: str
) -> None:
    """Growth of at most four times the cap, where the whole would be a gigabyte and more."""
    path = packed_gigabyte(tmp_path / name, start)
    said, grown = read_apart(path, text_as)
    assert said.startswith(f"{path}:{what} of more than 64 MiB, the most allowed; ")
    assert grown < 256


def test_a_cell_of_128_mebibytes_in_parquet_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table({"text": ["fine", "0" * (GIGABYTE // 8)]})
    plain = {"use_dictionary": False, "write_statistics": False}
    pq.write_table(table, path, row_group_size=1, compression="zstd", **plain)
    assert path.stat().st_size < 2**20
    said, grown = read_apart(path)
    assert said == f"{path}:2: a row of more than 64 MiB, the most allowed; split its text"
    assert grown < 64


@pytest.fixture
def small_cap(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(readers, "MAX_RECORD", 2**20)
    return 2**20


def test_a_long_cell_among_short_ones_is_named(tmp_path: Path, small_cap: int) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["fine"] * 70 + ["0" * (small_cap + 1)] + ["fine"] * 70}), path)
    with pytest.raises(InputError, match=r"rows\.parquet:71: a row of more than 1 MiB"):
        list(Corpus.read(path))


def test_long_rows_are_taken_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "PARQUET_BYTES", 2**20)
    path = tmp_path / "rows.parquet"
    texts = [f"{n:06}" * 20_000 for n in range(50)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=20, use_dictionary=False)
    with pq.ParquetFile(path) as file:
        batches = list(readers._parquet_batches(path, file, ["text"]))
    assert max(batch.num_rows for batch in batches) == 2**20 // 120_005
    assert [example.text for example in Corpus.read(path)] == texts


def test_a_record_at_the_cap_is_read(tmp_path: Path, small_cap: int) -> None:
    line = b'{"text": "%s"}\n'
    text = b"x" * (small_cap - len(line % b""))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line % b"first" + line % text)
    assert [len(example.text) for example in Corpus.read(path)] == [5, len(text)]
    path.write_bytes(line % b"first" + line % (text + b"x"))
    with pytest.raises(InputError, match=r"rows\.jsonl:2: a line of more than 1 MiB"):
        list(Corpus.read(path))


def test_a_quote_that_is_never_closed_is_named_by_its_row(tmp_path: Path, small_cap: int) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('id,text\n1,a\n2,"b\n' + "a line of it\n" * 100_000)
    with pytest.raises(InputError, match=r"rows\.csv:3: a row of more than 1 MiB, .*; is a quote missing"):
        list(Corpus.read(path))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_unpacks_to_far_more_than_text_does(suffix: str, tmp_path: Path, small_cap: int) -> None:
    path, pack = tmp_path / f"lines.txt{suffix}", gzip.compress if suffix == ".gz" else zstd
    line = b"the same line again and again, a thousand times\n"
    path.write_bytes(pack(line * (3 * small_cap // len(line))))
    with pytest.raises(InputError, match=r"lines.*: unpacks to more than 200 times its size"):
        list(Corpus.read(path))
    path.write_bytes(pack(line * (small_cap // len(line) - 1)))
    assert len(list(Corpus.read(path))) == small_cap // len(line) - 1
