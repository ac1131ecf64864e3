"""The same command again: on a finished run, a damaged one, an older one, with other threads or settings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.folders import edit_config
from tests.killing import Killed
from tests.models import make_model
from tests.runs import CORPUS, SlowRun, contents, small_spec

from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index, build_indexes
from proponent.errors import InputError
from proponent.progress import Silent

REMEDY = "remove the folder and index the corpus again with the same command"


class Lines(Silent):
    """Keeps the lines that are said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def copy(run: SlowRun, tmp_path: Path) -> Path:
    """A finished run of its own."""
    return Path(shutil.copytree(run.index.folder.path, tmp_path / "copy"))


def stopped(folder: Path, model_folder: Path) -> None:
    """A run that was killed before its first shard."""

    def kill(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proponent.build.tasks.read_staged", kill)
        with pytest.raises(Killed):
            build_index(CORPUS, small_spec(model_folder), folder, "cpu")


def test_every_damage_of_a_finished_run_is_found(copy: Path, model_folder: Path) -> None:
    expected = contents(copy)
    build_index(CORPUS, small_spec(model_folder), copy, "cpu")
    assert len(expected) == 13 + 1
    for name in sorted(expected):
        damaged = bytearray(expected[name])
        damaged[len(damaged) // 2] ^= 1
        (copy / name).write_bytes(damaged)
        with pytest.raises(InputError, match=name):
            build_index(CORPUS, small_spec(model_folder), copy, "cpu")
        (copy / name).write_bytes(expected[name])
    (copy / "index" / "00000.safetensors").unlink()
    with pytest.raises(InputError, match=r"00000.safetensors: missing; make it again with: proponent"):
        build_index(CORPUS, small_spec(model_folder), copy, "cpu")


def test_a_damaged_manifest_of_an_unfinished_run_has_a_way_out(model_folder: Path, tmp_path: Path) -> None:
    stopped(tmp_path / "run", model_folder)
    (tmp_path / "run" / "run.json").write_text('{"form')
    with pytest.raises(InputError, match=rf"run.json: damaged .*; {REMEDY}"):
        build_index(CORPUS, small_spec(model_folder), tmp_path / "run", "cpu")


@pytest.mark.parametrize(
    "made_with", [None, {}, [], "2 threads", {"threads": None}, {"threads": "2"}, {"threads": 0}]
)
def test_an_unfinished_run_that_does_not_say_its_threads_has_a_way_out(
    made_with: object, model_folder: Path, tmp_path: Path
) -> None:
    stopped(tmp_path / "run", model_folder)
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**manifest, "made_with": made_with}))
    with pytest.raises(
        InputError, match=rf"run.json: damaged \(its 'made_with' is none of a run\); {REMEDY}"
    ):
        build_index(CORPUS, small_spec(model_folder), tmp_path / "run", "cpu")


def test_runs_begun_with_other_numbers_of_threads_do_not_go_on_together(
    model_folder: Path, tmp_path: Path
) -> None:
    for name, threads in (("one", 1), ("two", 2)):
        stopped(tmp_path / name, model_folder)
        path = tmp_path / name / "run.json"
        manifest = json.loads(path.read_text())
        manifest["made_with"]["threads"] = threads
        path.write_text(json.dumps(manifest))
    specs = {tmp_path / name: small_spec(model_folder) for name in ("one", "two")}
    with pytest.raises(InputError, match=r"same number of threads: .*one with 1, .*two with 2; build them"):
        build_indexes(CORPUS, specs, "cpu")
    build_index(CORPUS, small_spec(model_folder), tmp_path / "one", "cpu")
    build_indexes(CORPUS, specs, "cpu")  # a finished run has no say


def test_a_run_of_an_older_format_is_refused_with_the_way_to_make_it_again(
    copy: Path, model_folder: Path
) -> None:
    manifest = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**manifest, "format": 2}))
    for use in (
        lambda: build_index(CORPUS, small_spec(model_folder), copy, "cpu"),
        lambda: Tracer(copy, "cpu"),
    ):
        with pytest.raises(InputError, match=rf"run format 2, but this version .* format 3; {REMEDY}"):
            use()


def test_a_build_goes_on_with_as_many_threads_as_it_began_with(model_folder: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    stopped(tmp_path / "run", model_folder)
    used: list[int] = []

    class Watching(Silent):
        def say(self, line: str) -> None:
            used.append(torch.get_num_threads())

    try:
        torch.set_num_threads(before + 1)
        build_index(CORPUS, small_spec(model_folder), tmp_path / "run", "cpu", Watching())
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert used[-1] == before
    made_with = json.loads((tmp_path / "run" / "run.json").read_text())["made_with"]
    assert made_with["threads"] == before
    assert made_with["versions"]["torch"] == torch.__version__
    build_index(CORPUS, small_spec(model_folder), tmp_path / "whole", "cpu")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


@pytest.mark.parametrize("setting", [{"rms_norm_eps": 1e-3}, {"hidden_act": "gelu"}])
def test_another_number_in_the_models_config_makes_another_model(
    setting: dict[str, object], tmp_path: Path
) -> None:
    """The weights are the same to the last byte, the gradients are not."""
    model = make_model(tmp_path / "model")
    build_index(CORPUS, small_spec(model), tmp_path / "run", "cpu")
    stopped(tmp_path / "stopped", model)
    edit_config(model, **setting)
    with pytest.raises(InputError, match=r"the model in .* is not the one that this run was made with"):
        Tracer(tmp_path / "run", "cpu")
    with pytest.raises(InputError, match=r"settings: model was \w+, now \w+;"):
        build_index(CORPUS, small_spec(model), tmp_path / "stopped", "cpu")


def test_what_is_said_before_a_build(tmp_path: Path) -> None:
    model, lines = make_model(tmp_path / "model"), Lines()
    spec = small_spec(model, dim=100, max_length=0)
    made = build_index(CORPUS, spec, tmp_path / "run", "cpu", lines)
    said = "\n".join(lines.lines)
    assert "12 passages, the first is 'paris'" in said
    assert "passages are cut at 64 tokens, the most that the model reads" in said
    assert made.spec["max_length"] == 64
    assert "dim 100 gives 4 blocks of 5 x 5" not in said, "100 is met exactly"
    assert "the gradients of all passages take about 0." in said
    build_index(CORPUS, small_spec(model, dim=70), tmp_path / "odd", "cpu", lines)
    assert "dim 70 gives 4 blocks of 4 x 4: 64 coordinates" in "\n".join(lines.lines)
