"""The options of 'proponent index' that say who does the work."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.cli.running import Command, Made, index_arguments
from tests.runs import contents


def test_parts_and_what_is_left_make_the_run(proponent: Command, made: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = proponent(*index_arguments(made, run), "--task", "0/2")
    assert first.out == f"{run}: part 0/2 is done, 1 shards made; when all parts are: --finish\n"
    assert proponent(*index_arguments(made, run), "--task", "1/2").code == 0
    done = proponent(*index_arguments(made, run), "--finish")
    assert done.out.startswith(f"{run}: 5 rows, "), done
    others = ("experiments/", "variants/")  # what other tests did with the run
    whole = {name: data for name, data in contents(made.run).items() if not name.startswith(others)}
    assert contents(run) == whole


@pytest.mark.parametrize("part", ["2/2", "1", "-1/2", "a/b", "0/0", "1/2/3"])
def test_a_part_that_is_none_is_refused(part: str, proponent: Command, made: Made, tmp_path: Path) -> None:
    refused = proponent(*index_arguments(made, tmp_path / "run"), f"--task={part}")
    refused.assert_refused(f"--task is '{part}'", "give I/N with I from 0 to N - 1")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("other", [["--finish"], ["--workers", "2"], ["--ray", "local"]])
def test_a_part_is_the_work_of_one_process(
    other: list[str], proponent: Command, made: Made, tmp_path: Path
) -> None:
    refused = proponent(*index_arguments(made, tmp_path / "run"), "--task", "0/2", *other)
    refused.assert_refused("--task is the work of one process; leave out")


def test_nothing_to_finish_is_said(proponent: Command, made: Made, tmp_path: Path) -> None:
    refused = proponent(*index_arguments(made, tmp_path / "run"), "--finish")
    refused.assert_refused(f"{tmp_path / 'run'}: nothing to finish; make its features first, with --task")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", ["0", "-1"])
def test_workers_are_at_least_one(workers: str, proponent: Command, made: Made, tmp_path: Path) -> None:
    refused = proponent(*index_arguments(made, tmp_path / "run"), f"--workers={workers}")
    refused.assert_refused(f"--workers is {workers}; give 1 or more")


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_a_cluster_that_is_not_there_is_named(proponent: Command, made: Made, tmp_path: Path) -> None:
    for words in (
        index_arguments(made, tmp_path / "run", None, "--ray", "nowhere"),
        ["trace", str(made.run), str(made.facts), "-k", "1", "--ray", "nowhere"],
    ):
        proponent(*words).assert_refused("no Ray cluster at 'nowhere'", "give the word local")
    assert not (tmp_path / "run").exists()
