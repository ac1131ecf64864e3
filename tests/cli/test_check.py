"""``proponent check``: what is wrong with a run, and its repair."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.running import Command, Made
from tests.runs import contents


@pytest.fixture
def run(made: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.run, tmp_path / "run", ignore=shutil.ignore_patterns("experiments")))


def harm(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def test_a_sound_run(run: Path, proponent: Command) -> None:
    before = contents(run)
    assert proponent("check", run).out == f"{run}: sound, 13 files\n"
    assert json.loads(proponent("check", run, "--json").out)["sound"] is True
    assert contents(run) == before


def test_damage_is_listed_and_repaired(made: Made, run: Path, proponent: Command) -> None:
    before = contents(run)
    for name in ("index/00000.safetensors", "examples/00000.parquet"):
        harm(run / name)
    answer = proponent("check", run)
    assert answer.code == 2
    assert answer.out.splitlines() == [
        "examples/00000.parquet: damaged (its checksum differs); "
        "proponent check RUN --repair --corpus CORPUS",
        "index/00000.safetensors: damaged (its checksum differs); proponent check RUN --repair",
    ]
    last = answer.err.splitlines()[-1]
    assert last.startswith(f"error: {run}: not sound: examples/00000.parquet, index/00000.safetensors;")
    found = json.loads(proponent("check", run, "--json").out)
    assert [finding["file"] for finding in found["findings"]] == [
        "examples/00000.parquet",
        "index/00000.safetensors",
    ]
    words = ("check", run, "--repair", "--device", "cpu")
    proponent(*words).assert_refused("examples/00000.parquet", "--corpus")
    repaired = proponent(*words, "--corpus", made.corpus)
    assert repaired.code == 0, repaired
    assert "index/00000.safetensors: made again, with the same bytes as before" in repaired.out
    assert repaired.out.splitlines()[-1] == f"{run}: sound, 13 files"
    assert contents(run) == before


def test_an_unfinished_run(run: Path, proponent: Command) -> None:
    (run / "done.json").unlink()
    answer = proponent("check", run)
    assert answer.code == 2
    assert answer.out == (
        "done.json: missing: this run is unfinished; run the same 'proponent index' again to go on\n"
    )


def test_a_corpus_without_repair_is_refused(made: Made, run: Path, proponent: Command) -> None:
    proponent("check", run, "--corpus", made.corpus).assert_refused("add --repair")
