"""``trace --certified`` and ``--within``: what is printed and written, and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.running import Command, Made

from proponent.files import checksum, read_checksummed_json, write_checksummed_json, write_json


@pytest.fixture
def codes(made: Made, proponent: Command, tmp_path: Path) -> Path:
    assert proponent("compact", made.run, tmp_path / "codes", "--size", "64B").code == 0
    return tmp_path / "codes"


@pytest.mark.parametrize("words", [["sure"], ["0.9"], ["sure", "--within", "600"]])
def test_it_finds_what_the_full_run_does_and_says_so(
    words: list[str], made: Made, codes: Path, proponent: Command
) -> None:
    asked = (made.facts, "-k", "2", "--device", "cpu", "--json")
    answer = proponent("trace", codes, *asked, "--certified", *words)
    assert answer.code == 0, answer
    full = proponent("trace", made.run, *asked)
    for one, other in zip(*(map(json.loads, said.out.splitlines()) for said in (answer, full)), strict=True):
        assert one["proponent_ids"] == other["proponent_ids"]
        assert one["certificate"]["confidence"] == (1.0 if words[0] == "sure" else 0.9)
        assert (one["certificate"]["proponents"], one["certificate"]["opponents"]) == (2, 2)
    table = proponent("trace", codes, made.facts, "-k", "2", "--device", "cpu", "--certified", *words)
    assert table.out.count("Certified") == 2, table.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--certified", "surely"], "certified is 'surely'; give 'sure'"),
        (["--certified", "1.5"], "certified is '1.5'; give 'sure'"),
        (["--certified", "sure", "--within", "0"], "--within is 0.0; give more than 0"),
        (["--within", "3"], "add --certified, or leave it out"),
        (["--certified", "sure", "--diverse"], "leave out diverse, or --certified"),
        (["--certified", "sure", "--ray", "local"], "leave out --ray, or --certified"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    words: list[str], said: str, made: Made, codes: Path, proponent: Command
) -> None:
    proponent("trace", codes, made.facts, "-k", "1", "--device", "cpu", *words).assert_refused(said)


def test_a_full_run_needs_no_certificate(made: Made, proponent: Command) -> None:
    proponent("trace", made.run, made.facts, "-k", "1", "--certified", "sure").assert_refused("is a full run")


def test_a_full_run_that_was_moved_is_said_with_full(
    made: Made, codes: Path, proponent: Command, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(codes, moved / "codes")
    shutil.copytree(made.run, moved / "full", ignore=shutil.ignore_patterns("experiments"))
    manifest = json.loads((moved / "codes" / "run.json").read_text())
    for name, value in (("run", "/nowhere"), ("beside", "nowhere")):
        manifest["compacted"][name] = value
    write_json(moved / "codes" / "run.json", manifest)
    totals = read_checksummed_json(moved / "codes" / "done.json")
    totals |= {"run": manifest}
    totals["checksums"]["run.json"] = checksum(moved / "codes" / "run.json")
    write_checksummed_json(moved / "codes" / "done.json", totals)
    asked = ("trace", moved / "codes", made.facts, "-k", "2", "--device", "cpu", "--json")
    proponent(*asked, "--certified", "sure").assert_refused(
        "/nowhere: the full run that", "is not there; put it back, or say where it is with --full RUN"
    )
    answer = proponent(*asked, "--certified", "sure", "--full", moved / "full")
    assert answer.code == 0, answer
    assert all(json.loads(line)["certificate"]["confidence"] == 1 for line in answer.out.splitlines())
    proponent(*asked, "--full", moved / "full").assert_refused("for a certified trace; add --certified")
    (moved / "codes" / "index" / "00000.safetensors").unlink()
    proponent("check", moved / "codes", "--repair").assert_refused("--full RUN")
    proponent("check", moved / "codes", "--full", moved / "full").assert_refused("--full is for a repair")
    assert proponent("check", moved / "codes", "--repair", "--full", moved / "full").code == 0
