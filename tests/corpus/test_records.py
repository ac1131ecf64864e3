from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proponent.corpus.records import FileSource, columns_to_read
from proponent.errors import InputError

LINES = b'{"id": "a", "text": "one"}\n{"id": "b", "text": "zwei \xc3\xa4"}\n'
ROWS = [{"id": "a", "text": "one"}, {"id": "b", "text": "zwei ä"}]


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


PACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd}


def read(path: Path, **columns: tuple[str, ...]) -> list[dict[str, object]]:
    source = FileSource(path, path.name)
    needed, useful = columns.get("needed", ()), columns.get("useful", ())
    return [record.fields for record in source.records(needed, useful)]


def fails(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("form", [".jsonl", ".json"])
def test_json_lines_are_read_packed_or_not(tmp_path: Path, form: str, packed: str) -> None:
    path = tmp_path / f"rows{form}{packed}"
    path.write_bytes(PACK[packed](LINES))
    assert read(path) == ROWS


@pytest.mark.parametrize("packed", PACK)
def test_text_is_a_passage_a_line(tmp_path: Path, packed: str) -> None:
    path = tmp_path / f"rows.txt{packed}"
    path.write_bytes(PACK[packed]("eins\r\n\n  zwei ä \nno end".encode()))
    assert read(path) == [{"text": "eins"}, {"text": ""}, {"text": "  zwei ä "}, {"text": "no end"}]


def test_packed_files_may_be_several_laid_end_to_end(tmp_path: Path) -> None:
    for packed in (".gz", ".zst"):
        path = tmp_path / f"rows.jsonl{packed}"
        path.write_bytes(PACK[packed](LINES) + PACK[packed](LINES))
        assert read(path) == ROWS + ROWS


def test_only_the_line_end_ends_a_line(tmp_path: Path) -> None:
    """A line separator of Unicode or a form feed inside a JSON string is text."""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "a\u2028b\x0cc\x85d"}, ensure_ascii=False) + "\n", "utf-8")
    assert read(path) == [{"text": "a\u2028b\x0cc\x85d"}]


def test_blank_json_lines_are_skipped_and_still_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n\n{"text": "b"}\n  \n')
    records = list(FileSource(path, "rows.jsonl").records((), ()))
    assert [(record.number, record.place) for record in records] == [(1, f"{path}:1"), (3, f"{path}:3")]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.txt"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    line = '{"text": "a"}' if name.endswith("jsonl") else "a"
    path.write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\n")
    assert read(path) == [{"text": "a"}]


def test_parquet_rows_across_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = [{"id": n, "text": f"t{n}", "url": "u"} for n in range(2500)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1100)
    records = list(FileSource(path, "rows.parquet").records(("text",), ("id",)))
    assert [record.fields for record in records] == [{"id": n, "text": f"t{n}"} for n in range(2500)]
    assert records[2400].place == f"{path}:2401"


def test_columns_are_the_wanted_ones_or_all_where_one_is_missing() -> None:
    present = ["id", "text", "url"]
    assert columns_to_read(present, ("text",), ("id", "key")) == ["id", "text"]
    assert columns_to_read(present, ("body",), ("id",)) == present
    assert columns_to_read(present, (), ()) == present


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n')
    assert fails(path).startswith(f"{path}:2: not JSON (")


@pytest.mark.parametrize(
    ("value", "words"),
    [("[1]", "a list"), ('"x"', "a string"), ("3", "a number"), ("null", "null"), ("true", "true or false")],
)
def test_a_line_that_is_no_object_is_named(tmp_path: Path, value: str, words: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"text": "a"}}\n{value}\n')
    assert fails(path) == f"{path}:2: not a JSON object but {words}; one object a line is expected"


@pytest.mark.parametrize("line", ["[" * 100_000, '{"id": ' + "9" * 5000 + "}"])
def test_json_that_breaks_parsers_is_an_input_error(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line)
    assert f"{path}:1: not JSON" in fails(path)


def test_wrong_encoding_names_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_bytes("gut\nsch\xf6n\n".encode("latin-1"))
    assert fails(path) == f"{path}:2: not UTF-8 (byte 4 of the line); save the file as UTF-8"


@pytest.mark.parametrize("packed", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_broken_packed_file_is_named(tmp_path: Path, packed: str, damage: str) -> None:
    path = tmp_path / f"rows.jsonl{packed}"
    whole = PACK[packed](b"".join(b'{"text": "%d"}\n' % (n * n) for n in range(20_000)))
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"not packed at all" * 10)
    assert fails(path).startswith(f"{path}: cannot be read (")


def test_a_broken_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 but not really")
    assert fails(path).startswith(f"{path}: not a readable Parquet file (")
    pq.write_table(pa.table({"text": ["a" * 1000] * 50}), path, compression="none", use_dictionary=False)
    path.write_bytes(path.read_bytes()[:-100])
    assert fails(path).startswith(f"{path}: not a readable Parquet file (")


def test_an_unknown_type_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"rows\.xls: unknown file type; known are \.jsonl, \.json, \.csv, \.tsv"
    ):
        FileSource(Path("rows.xls"), "rows")
    for name in ("rows.parquet.gz", "rows.gz", "rows"):
        with pytest.raises(InputError, match="unknown file type"):
            FileSource(Path(name), name)


def test_the_real_c4_lines_are_read(shared_dir: Path) -> None:
    rows = read(shared_dir / "c4" / "c4-sample.01.json.gz")
    assert len(rows) == 10
    assert rows[0].keys() >= {"text", "url"}
