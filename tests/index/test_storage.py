"""Tensors and tables on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import safetensors.torch
import torch

from proponent.errors import InputError
from proponent.files import checksum
from proponent.index.storage import (
    TEXT,
    TOKENS,
    read_table,
    read_tensors,
    text_column,
    token_column,
    write_table,
    write_tensors,
)

COLUMNS = {"id": TEXT, "tokens": TOKENS}


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"turned": whole.T, "half": whole.half(), "view": whole[1:2]}
    write_tensors(tmp_path / "file", tensors)
    found = read_tensors(tmp_path / "file")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_the_same_values_give_the_same_bytes(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", {"x": torch.ones(3), "y": torch.zeros(2)})
    write_tensors(tmp_path / "b", {"y": torch.zeros(2), "x": torch.ones(3)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_of_tensors_cut_short_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_tensors(path, {"a": torch.arange(12.0).reshape(3, 4), "b": torch.zeros(0, 4)})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="missing or damaged"):
        read_tensors(path)


def test_tensors_of_two_widths_are_aligned_and_plain_safetensors(tmp_path: Path) -> None:
    tensors = {"codes": torch.ones(3, 5).half(), "scale": torch.arange(3.0), "none": torch.zeros(0, 4)}
    write_tensors(tmp_path / "file", tensors)
    content = (tmp_path / "file").read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    assert end % 8 == 0
    assert header["scale"] == {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}
    assert header["codes"] == {"dtype": "F16", "shape": [3, 5], "data_offsets": [12, 42]}
    assert len(content) == end + 42
    found = safetensors.torch.load(content)
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_tables_come_back_as_they_were(tmp_path: Path) -> None:
    texts, tokens = ["", "é\n🦜", "a=b"], [(), (0, 2**31 - 1, 7), (5,)]
    path = tmp_path / "key=value" / "file.parquet"  # not a partition: no column may be made of it
    write_table(path, {"id": text_column(texts), "tokens": token_column(tokens)})
    assert read_table(path, COLUMNS).to_pydict() == {"id": texts, "tokens": [list(row) for row in tokens]}


def test_tables_without_rows_come_back(tmp_path: Path) -> None:
    write_table(tmp_path / "file", {"id": text_column([]), "tokens": token_column([])})
    assert read_table(tmp_path / "file", COLUMNS).to_pydict() == {"id": [], "tokens": []}


@pytest.mark.parametrize(
    "columns", [{"id": TEXT}, {"id": TEXT, "token": TOKENS}, {"id": TOKENS, "tokens": TOKENS}]
)
def test_other_columns_are_refused(columns: dict[str, pa.DataType], tmp_path: Path) -> None:
    write_table(tmp_path / "file", {"id": text_column(["a"]), "tokens": token_column([(1,)])})
    with pytest.raises(InputError, match=r"file: damaged \(its columns are id \(string\), tokens \(list"):
        read_table(tmp_path / "file", columns)


def test_a_missing_value_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "file", {"id": pa.array(["a", None]), "tokens": token_column([(1,), (2,)])})
    with pytest.raises(InputError, match=r"file: damaged \(a value is missing\)"):
        read_table(tmp_path / "file", COLUMNS)


def test_a_tensor_that_a_file_does_not_hold_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {"a": torch.zeros(1)})
    with pytest.raises(InputError, match=r"file: damaged \(holds no 'b'\)"):
        _ = read_tensors(tmp_path / "file")["b"]


def test_a_column_of_more_text_than_arrow_holds_is_refused() -> None:
    class Long(str):
        def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
            return range(2**30)  # type: ignore[return-value]

    with pytest.raises(OverflowError):
        text_column([Long(), Long()])


def test_writers_give_the_checksum_of_what_they_wrote(tmp_path: Path) -> None:
    found: dict[str, str] = {}
    write_tensors(tmp_path / "a", {"x": torch.ones(3)}, lambda sum: found.setdefault("a", sum))
    write_table(tmp_path / "b", {"id": text_column(["x"])}, lambda sum: found.setdefault("b", sum))
    assert found == {name: checksum(tmp_path / name) for name in ("a", "b")}


@pytest.mark.parametrize(
    ("content", "reader"),
    [
        (b"\x08\0\0\0\0\0\0\0{}", read_tensors),
        (b"", read_tensors),
        (b"PAR1", partial(read_table, columns=COLUMNS)),
    ],
)
def test_files_that_are_no_such_files_are_damaged(
    content: bytes, reader: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"file: .*damaged.*; build the run again"):
        reader(path)
