"""Commands on runs and files in a store, and where only a path will do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from tests.cli.running import Command, Made
from tests.stores import RUN, empty, machine, upload

FACTS = "memory://bucket/facts.jsonl"


@pytest.fixture(autouse=True)
def _stored(made: Made, tmp_path: Path) -> Iterator[None]:
    empty()
    for name in (p.relative_to(made.run).as_posix() for p in made.run.rglob("*") if p.is_file()):
        if not name.startswith(("experiments/", "variants/")):  # what other tests did with the run
            fsspec.filesystem("memory").pipe_file(f"{RUN}/{name}", (made.run / name).read_bytes())
    fsspec.filesystem("memory").pipe_file(FACTS, made.facts.read_bytes())
    with machine(tmp_path / "cache"):
        yield
    empty()


def test_a_trace_in_a_store_is_that_in_a_folder(proponent: Command, made: Made, tmp_path: Path) -> None:
    asked = ["-k", "2", "--device", "cpu"]
    hits = tmp_path / "hits.jsonl"
    assert proponent("trace", RUN, FACTS, "--task", FACTS, "--output", hits, *asked).code == 0
    here = proponent("trace", made.run, made.facts, "--task", made.facts, "--json", *asked)
    ours, theirs = ([json.loads(line) for line in text.splitlines()] for text in (hits.read_text(), here.out))
    assert [line.pop("run") for line in ours] == [RUN, RUN]
    assert [line.pop("run") for line in theirs] == [str(made.run)] * 2
    assert ours == theirs
    upload(tmp_path, "memory://bucket/results")
    said = proponent("info", "memory://bucket/results/hits.jsonl", "--json")
    assert json.loads(said.out)["queries"] == 2
    page = tmp_path / "page.html"
    assert proponent("view", "memory://bucket/results/hits.jsonl", "--export", page).code == 0
    proponent("view", RUN, "--export", page).assert_refused(f"{RUN}: a page holds result files only")


def test_info_and_check(proponent: Command, made: Made) -> None:
    assert proponent("info", RUN).out.split()[:2] == ["run", RUN]
    assert proponent("check", RUN).out.startswith(f"{RUN}: sound, ")
    fsspec.filesystem("memory").rm(f"{RUN}/done.json")
    proponent("info", RUN).assert_refused(
        f"{RUN}: this run is unfinished; run the same 'proponent index' again"
    )
    proponent("info", "memory://bucket/no").assert_refused("memory://bucket/no: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrain", "CORPUS", "s3://bucket/model"], "s3://bucket/model: a model is trained into a folder"),
        (
            ["trace", RUN, FACTS, "--output", "s3://bucket/hits.jsonl"],
            "results are written to a file of this",
        ),
        (["experiment", "table1", RUN, "--facts", "FACTS"], f"{RUN}: an experiment keeps its work"),
        (["report", RUN], f"{RUN}: experiments are kept in the folder of a run"),
        (["demo", "s3://bucket/demo"], "the demo is made in a folder of this machine"),
        (["trace", "nowhere://bucket/run", FACTS], "nowhere://bucket/run: not an address that can be used"),
        (["info", "memory://bucket/nothing"], "memory://bucket/nothing: no such"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    words: list[str], said: str, proponent: Command, made: Made
) -> None:
    places = {"CORPUS": str(made.corpus), "FACTS": str(made.facts)}
    proponent(*(places.get(word, word) for word in words)).assert_refused(said)
