from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from proponent.corpus import Corpus
from proponent.corpus.hub import DatasetSource
from proponent.errors import InputError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def quiet_and_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def rows(*texts: str) -> object:
    return datasets.Dataset.from_dict(
        {"id": list(range(len(texts))), "text": list(texts), "url": [""] * len(texts)}
    )


def test_a_saved_dataset_is_read(tmp_path: Path) -> None:
    rows("a", "b").save_to_disk(tmp_path / "saved")  # type: ignore[attr-defined]
    corpus = Corpus.read(tmp_path / "saved")
    assert [(example.id, example.text) for example in corpus] == [("0", "a"), ("1", "b")]
    assert [example.place for example in corpus] == [f"{tmp_path}/saved:1", f"{tmp_path}/saved:2"]


def test_only_the_columns_in_use_are_read(tmp_path: Path) -> None:
    rows("a").save_to_disk(tmp_path / "saved")  # type: ignore[attr-defined]
    source = DatasetSource("saved", str(tmp_path / "saved"))
    assert [record.fields for record in source.records(("text",), ("id",))] == [{"id": 0, "text": "a"}]


def test_train_is_the_split_of_several(tmp_path: Path) -> None:
    datasets.DatasetDict({"test": rows("t"), "train": rows("a")}).save_to_disk(tmp_path / "saved")
    assert [example.text for example in Corpus.read(tmp_path / "saved")] == ["a"]
    assert [example.text for example in Corpus.read(tmp_path / "saved" / "test")] == ["t"]


def test_splits_without_train_must_be_named(tmp_path: Path) -> None:
    datasets.DatasetDict({"test": rows("t"), "dev": rows("d")}).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match="no split 'train' but test, dev"):
        list(Corpus.read(tmp_path / "saved"))


def test_a_folder_of_data_files_is_streamed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"id": "x", "text": "a"}\n{"id": "y", "text": "b"}\n')
    assert [(example.id, example.text) for example in Corpus.read(folder)] == [("x", "a"), ("y", "b")]


def test_a_config_and_a_split_of_a_hub_dataset_are_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As C4 is laid out: a folder of gzipped JSON lines for each config, named in its card."""
    card = ["---", "configs:"]
    for config in ("en", "de"):
        (tmp_path / config).mkdir()
        card += [f"- config_name: {config}", "  data_files:"]
        for split in ("train", "validation"):
            card += [f"  - split: {split}", f"    path: {config}/c4-{split}.*.json.gz"]
            for part in range(2):
                line = {"text": f"{config} {split} {part}", "timestamp": "2019-04-25T12:57:54Z", "url": "x"}
                name = f"c4-{split}.0000{part}-of-00002.json.gz"
                (tmp_path / config / name).write_bytes(gzip.compress(json.dumps(line).encode() + b"\n"))
    (tmp_path / "README.md").write_text("\n".join([*card, "---", ""]))
    load, asked = datasets.load_dataset, []

    def load_copy(name: str, *args: Any, **kwargs: Any) -> Any:
        asked.append((name, kwargs))
        return load(str(tmp_path), *args, **kwargs)

    monkeypatch.setattr(datasets, "load_dataset", load_copy)
    passages = [(e.id, e.text) for e in Corpus.read("hf:allenai/c4:en")]
    assert passages == [("allenai/c4:en:1", "en train 0"), ("allenai/c4:en:2", "en train 1")]
    other = [e.text for e in Corpus.read("hf:allenai/c4:de:validation", limit=1)]
    assert other == ["de validation 0"]
    assert asked == [("allenai/c4", {"streaming": True})] * 2


def test_ids_are_made_of_the_folder_and_the_row(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "saved")
    assert [example.id for example in Corpus.read(tmp_path / "saved")] == ["saved:1", "saved:2"]


def test_a_folder_that_is_no_dataset_is_named(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"none: not a readable dataset \("):
        list(Corpus.read(tmp_path / "none"))


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'proponent\[datasets\]'"):
        list(Corpus.read(tmp_path))
