"""``proponent compact`` and ``index --size``: small indexes made, looked into, and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.running import Command, Made, index_arguments
from tests.runs import contents

from proponent.build import compact as compacting


@pytest.fixture
def codes(made: Made, proponent: Command, tmp_path: Path) -> Path:
    assert proponent("compact", made.run, tmp_path / "codes", "--size", "64B").code == 0
    return tmp_path / "codes"


def test_a_line_says_what_was_made_and_another_time_the_same(
    made: Made, proponent: Command, tmp_path: Path
) -> None:
    words = ("compact", made.run, tmp_path / "codes", "--size", "64B")
    answer = proponent(*words)
    assert (answer.code, answer.out[-4:]) == (0, "MiB\n"), answer
    assert answer.out.startswith(f"{tmp_path / 'codes'}: 5 rows, "), answer
    before = contents(tmp_path / "codes")
    again = proponent(*words)
    assert (again.code, again.out) == (0, answer.out)
    found = proponent(*words, "--json")
    assert json.loads(found.out) == json.loads(proponent("info", tmp_path / "codes", "--json").out)
    assert contents(tmp_path / "codes") == before


def test_four_kilobytes_are_what_is_made_where_nothing_is_said(
    made: Made, proponent: Command, tmp_path: Path
) -> None:
    found = json.loads(proponent("compact", made.run, tmp_path / "codes", "--json").out)
    assert (found["spec"]["size"], found["codec"], found["rows"]) == (4096, "signs", 5)


def test_info_says_what_a_passage_takes(made: Made, proponent: Command, codes: Path) -> None:
    table = " ".join(proponent("info", codes).out.split())
    assert "signs of 512 coordinates of a sketch, 64 bytes a passage" in table
    assert "dimension 64 = 4 blocks x 4 x 4" in table
    assert "size: 64" in table
    assert "float16, 128 bytes a passage" in " ".join(proponent("info", made.run).out.split())


def test_it_is_traced_and_checked_like_any_run(made: Made, proponent: Command, codes: Path) -> None:
    table = proponent("trace", codes, made.facts, "-k", "2", "--device", "cpu")
    assert table.code == 0, table
    lines = proponent("trace", codes, made.facts, "-k", "2", "--device", "cpu", "--json").out.splitlines()
    assert [len(json.loads(line)["proponents"]) for line in lines] == [2, 2]
    assert proponent("check", codes).out == f"{codes}: sound, {len(contents(codes)) - 1} files\n"
    cosine = ("trace", codes, made.facts, "-k", "2", "--device", "cpu", "--method", "cosine")
    proponent(*cosine, "--diverse").assert_refused("a compact index compares passages", "or the full run")


def test_a_damaged_one_is_repaired_of_its_full_run(made: Made, proponent: Command, tmp_path: Path) -> None:
    full = shutil.copytree(made.run, tmp_path / "full", ignore=shutil.ignore_patterns("experiments"))
    run = tmp_path / "codes"
    assert proponent("compact", full, run, "--size", "64B").code == 0
    before = contents(run)
    (run / "index" / "00000.safetensors").write_bytes(b"damaged")
    (run / "examples" / "00000.parquet").unlink()
    shutil.move(full, tmp_path / "moved")
    proponent("check", run, "--repair").assert_refused(str(full))
    shutil.move(tmp_path / "moved", full)
    answer = proponent("check", run, "--repair")
    assert (answer.code, answer.out.splitlines()[-1]) == (0, f"{run}: sound, {len(before) - 1} files"), answer
    assert contents(run) == before


@pytest.mark.parametrize(
    ("run", "size", "words"),
    [
        ("codes", "64B", ["compact already; give the full run that it was made of"]),
        ("none", "64B", ["none: not a run (no run.json)"]),
        ("unfinished", "64B", ["this run is unfinished"]),
        ("full", "full", ["size is 'full', which is what the run has; give 4KB"]),
        ("full", "3KB", ["size is '3KB'; give 64B, 128B"]),
        ("full", "1MB", ["size is '1MB'; give 64B, 128B"]),
    ],
)
def test_what_cannot_be_made_is_one_line_and_nothing_is_written(
    run: str, size: str, words: list[str], made: Made, codes: Path, proponent: Command, tmp_path: Path
) -> None:
    (tmp_path / "full").symlink_to(made.run)
    shutil.copytree(codes, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "done.json").unlink()
    before = sorted(path.name for path in tmp_path.iterdir())
    proponent("compact", tmp_path / run, tmp_path / "out", "--size", size).assert_refused(*words)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_another_size_in_the_same_folder_names_what_differs(
    made: Made, proponent: Command, codes: Path
) -> None:
    before = contents(codes)
    refused = proponent("compact", made.run, codes, "--size", "128B")
    refused.assert_refused("spec.size was 64, now 128; give another folder")
    assert contents(codes) == before
    (codes.parent / "link").symlink_to("nowhere")
    proponent("compact", made.run, codes.parent / "link").assert_refused("link: a link to nowhere")
    proponent("compact", made.run, made.corpus).assert_refused("exists and is not a run")


def test_an_interrupted_one_says_that_it_goes_on(
    made: Made, proponent: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    words = ("compact", made.run, tmp_path / "codes", "--size", "64B")
    with monkeypatch.context() as patch:
        patch.setattr(compacting, "_compact_shard", stop)
        answer = proponent(*words)
    assert answer.code == 130, answer
    assert "interrupted; what is done is kept, and the same command goes on" in answer.err
    unfinished = proponent("check", tmp_path / "codes")
    assert "this run is unfinished; run the same 'proponent compact' again to go on" in unfinished.out
    assert proponent(*words).code == 0


def test_index_with_a_size(made: Made, proponent: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = (*index_arguments(made, run), "--size", "64B")
    for moments in ("sample", "none"):
        refused = proponent(*words, "--second-moment", moments)
        refused.assert_refused(
            "use --second-moment kronecker, or make the full run and then: proponent compact"
        )
        assert not run.exists()
    proponent(*words[:-1], "3KB").assert_refused("size is '3KB'; give 64B, 128B")
    kronecker = (*words, "--second-moment", "kronecker")
    proponent(*kronecker, "--damping", "0.1").assert_refused("which this run takes for the identity")
    answer = proponent(*kronecker)
    assert (answer.code, answer.out[-4:]) == (0, "MiB\n"), answer
    table = " ".join(proponent("info", run).out.split())
    assert "signs of 512 coordinates of a sketch, 64 bytes a passage" in table
    assert "hessian: identity" in table
    assert proponent(*kronecker).out == answer.out, "it is verified"
    proponent("compact", run, tmp_path / "codes").assert_refused("compact already")
