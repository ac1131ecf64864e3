from __future__ import annotations

import gzip
import itertools
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proponent.corpus import Corpus, Example
from proponent.errors import InputError


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fails(corpus: Corpus) -> str:
    with pytest.raises(InputError) as caught:
        list(corpus)
    return str(caught.value)


def test_passages_come_in_order_and_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"id": "x", "text": "one"}, {"id": "y", "text": ""})
    corpus = Corpus.read(path)
    assert list(corpus) == [Example("x", "one", f"{path}:1"), Example("y", "", f"{path}:2")]
    assert list(corpus) == list(corpus)


@pytest.mark.parametrize("field", ["id", "sentence_id", "example_id", "passage_id", "fact_id"])
def test_known_id_fields_are_found(tmp_path: Path, field: str) -> None:
    assert [e.id for e in Corpus.read(write(tmp_path / "a.jsonl", {field: "k", "text": "t"}))] == ["k"]


def test_fields_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"id": "i", "key": 7, "body": "t", "text": 3})
    (example,) = Corpus.read(path, id_field="key", text_field="body")
    assert (example.id, example.text) == ("7", "t")


def test_ids_are_made_of_file_and_line(tmp_path: Path) -> None:
    one = write(tmp_path / "one/p.jsonl", {"text": "a"}, {"text": "b"})
    two = write(tmp_path / "two/p.jsonl", {"text": "c"})
    assert [e.id for e in Corpus.read(one)] == ["p.jsonl:1", "p.jsonl:2"]
    assert [e.id for e in Corpus.read(one, two)] == ["one/p.jsonl:1", "one/p.jsonl:2", "two/p.jsonl:1"]


def test_the_empty_id_field_makes_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"id": "same", "text": "a"}, {"id": "same", "text": "b"})
    assert [e.id for e in Corpus.read(path, id_field="")] == ["a.jsonl:1", "a.jsonl:2"]


def test_a_limit_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\nnot JSON\n')
    assert [e.text for e in Corpus.read(path, limit=2)] == ["a", "b"]
    with pytest.raises(InputError, match="a limit of 0 passages leaves none"):
        Corpus.read(path, limit=0)


def test_texts_and_examples_in_memory() -> None:
    example = Example("mine", "two", "somewhere")
    assert list(Corpus.of(["one", example])) == [Example("0", "one", "passage 0"), example]


def test_a_missing_text_field_lists_the_fields_and_the_option(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"id": "x", "body": "t"})
    remedy = "; name the right one with --text-field"
    assert fails(Corpus.read(path)) == f"{path}:1: no field 'text', the fields are: id, body{remedy}"
    pq.write_table(pa.table({"body": ["t"], "url": ["u"]}), tmp_path / "a.parquet")
    message = fails(Corpus.read(tmp_path / "a.parquet"))
    assert message == f"{tmp_path}/a.parquet:1: no field 'text', the fields are: body, url{remedy}"


def test_a_missing_id_field_lists_the_fields_and_the_option(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["t"], "url": ["u"]}), tmp_path / "a.parquet")
    message = fails(Corpus.read(tmp_path / "a.parquet", id_field="key"))
    assert "no field 'key', the fields are: text, url; name the right one with --id-field" in message


def test_a_record_without_the_id_that_others_have_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"id": "x", "text": "t"}, {"text": "u"})
    assert fails(Corpus.read(path)).startswith(f"{path}:2: no field 'id'")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"id": "x", "text": 5}, "the field 'text' must be a string, not a number"),
        ({"id": "x", "text": None}, "the field 'text' must be a string, not null"),
        ({"id": "x", "text": ["t"]}, "the field 'text' must be a string, not a list"),
        ({"id": True, "text": "t"}, "the field 'id' must be a string, not true or false"),
        ({"id": 1.5, "text": "t"}, "the field 'id' must be a string, not a number"),
        ({"id": "", "text": "t"}, "the id in 'id' is empty"),
        ({"id": "x", "text": "half \ud83d"}, "holds half a surrogate pair"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path: Path, row: Any, complaint: str) -> None:
    path = write(tmp_path / "a.jsonl", {"id": "fine", "text": "t"}, row)
    message = fails(Corpus.read(path))
    assert message.startswith(f"{path}:2: ")
    assert complaint in message


def test_a_corpus_larger_than_memory_streams(tmp_path: Path) -> None:
    """20 MB of text, of which the reader holds no more than a sliver at any time."""
    path = tmp_path / "big.jsonl.gz"
    with gzip.open(path, "wt", compresslevel=1) as out:
        for n in range(2000):
            out.write(json.dumps({"id": n, "text": f"{n} " * 2000}) + "\n")
    tracemalloc.start()
    count = sum(len(example.text) > 0 for example in Corpus.read(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2000
    assert peak < 2_000_000


def test_the_real_sentences_are_read(shared_dir: Path) -> None:
    first = next(iter(Corpus.read(shared_dir / "trex" / "sentences.jsonl.gz")))
    assert first.id == "s0000263ed1280d7"
    c4 = Corpus.read(f"{shared_dir}/c4/*.json.gz")
    assert [example.id for example in itertools.islice(c4, 9, 11)] == [
        "c4-sample.01.json.gz:10",
        "c4-sample.02.json.gz:1",
    ]
