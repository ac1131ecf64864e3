"""CSV and TSV, and text files read whole."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from proponent.corpus import Corpus, Example, Queries
from proponent.errors import InputError

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: bytes(pa.compress(data, codec="zstd", asbytes=True)),
}


def fails(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        list(Corpus.read(path))
    return str(caught.value)


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize(("form", "mark"), [(".csv", ","), (".tsv", "\t")])
def test_rows_under_a_header(tmp_path: Path, form: str, mark: str, packed: str) -> None:
    path = tmp_path / f"rows{form}{packed}"
    rows = f'\ufeffid{mark}url{mark}text\r\na{mark}u{mark}"two\nlines, ""said""{mark} ä"\n\nb{mark}{mark}\n'
    path.write_bytes(PACK[packed](rows.encode()))
    assert list(Corpus.read(path)) == [
        Example("a", f'two\nlines, "said"{mark} ä', f"{path}:2"),
        Example("b", "", f"{path}:5"),
    ]
    assert [example.text for example in Corpus.read(path, text_field="url", id_field="")] == ["u", ""]


def test_columns_are_called_by_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("key,body\nk,one\n")
    (example,) = Corpus.read(path, id_field="key", text_field="body")
    assert (example.id, example.text) == ("k", "one")
    assert fails(path).startswith(f"{path}:2: no field 'text', the fields are: key, body; name the right one")


def test_queries_may_be_a_table(tmp_path: Path) -> None:
    path = tmp_path / "queries.tsv"
    path.write_text("id\tprompt\ttarget\nq\tThe capital of France is\tParis\n")
    (query,) = Queries.read(path)
    assert (query.id, query.prompt, query.target) == ("q", "The capital of France is", "Paris")


def test_a_field_longer_than_the_csv_modules_own_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text\n" + "x" * 200_000 + "\n")
    assert [len(example.text) for example in Corpus.read(path)] == [200_000]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ('id,text\n1,"a\nb"\n2,b,c\n', "4: 3 fields under a header of 2; quote a field that holds"),
        ("id,text\n1\n", "2: 1 fields under a header of 2"),
        ('id,text\n1,"a" b\n', "2: not a row of a table (',' expected after '\"'); is a quote missing?"),
        ('id,text\n1,a\n2,"b\nc\n', "3: not a row of a table (unexpected end of data); is a quote missing?"),
        ("id,id,text\n1,2,a\n", "1: the header line has the name 'id' twice; the first line must name"),
        ("id,,text\n1,2,a\n", "1: the header line has a column without a name"),
        ("id,text\n1,sch\udcf6n\n", "2: not UTF-8"),
    ],
)
def test_a_bad_row_is_named_by_its_first_line(tmp_path: Path, rows: str, complaint: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(rows, errors="surrogateescape")
    assert fails(path).startswith(f"{path}:{complaint}")


# --- text files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", PACK)
def test_a_text_file_may_be_one_passage(tmp_path: Path, packed: str) -> None:
    path = tmp_path / f"notes.txt{packed}"
    path.write_bytes(PACK[packed]("\ufeffeins\n\nzwei ä\n".encode()))
    (whole,) = Corpus.read(path, text_as="documents")
    assert whole == Example(path.name, "eins\n\nzwei ä\n", f"{path}:1")
    assert [example.text for example in Corpus.read(path)] == ["eins", "", "zwei ä"]
    assert list(Corpus.read(path, text_as="lines")) == list(Corpus.read(path))
    with pytest.raises(InputError, match="--text-as is 'pages'; choose lines or documents"):
        Corpus.read(path, text_as="pages")


def test_an_empty_document_is_no_passage(tmp_path: Path) -> None:
    for name, text in (("a.txt", ""), ("b.txt", "b"), ("c.txt", "c")):
        (tmp_path / name).write_text(text)
    corpus = Corpus.read(f"{tmp_path}/*.txt", text_as="documents")
    assert [(example.id, example.text) for example in corpus] == [
        ("a.txt", ""),
        ("b.txt", "b"),
        ("c.txt", "c"),
    ]


def test_how_text_files_were_read_is_said(tmp_path: Path) -> None:
    notes, more, rows = (tmp_path / name for name in ("notes.txt", "more.txt", "rows.jsonl"))
    for path in (notes, more, rows):
        path.write_text('{"text": "x"}\n')
    asked = "--text-as documents reads a file as one passage"
    assert Corpus.read(notes).text_note(1234) == f"notes.txt: 1,234 passages, one a line; {asked}"
    assert Corpus.read(notes, more).text_note(1) == f"2 text files: 1 passage, one a line; {asked}"
    assert Corpus.read(notes, rows).text_note(9) == f"notes.txt: one a line; {asked}"
    assert Corpus.read(rows).text_note(9) == Corpus.of(["a"]).text_note(1) == ""
    note = Corpus.read(notes, text_as="documents").text_note(1)
    assert note == "notes.txt: 1 passage, one a file; --text-as lines reads each line as one passage"


def test_a_file_name_that_is_no_unicode_makes_ids(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.txt"
    try:
        path.write_text("a\n")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    assert [example.id for example in Corpus.read(path)] == ["caf\\udce9.txt:1"]
    assert Corpus.read(path).survey().passages == 1
