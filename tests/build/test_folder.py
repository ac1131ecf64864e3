"""The folder of a run that is being built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.index.conftest import made_up_features, start_build, write_run

from proponent.build.folder import building, check_folder, remove_leftovers
from proponent.build.soundness import check
from proponent.errors import InputError
from proponent.files import aside
from proponent.index.run import Index, RunFolder


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    return write_run(tmp_path / "run", made_up_features())


def test_a_run_with_other_settings_is_refused_naming_them(finished: RunFolder) -> None:
    manifest = json.loads(finished.manifest.read_text())
    assert check_folder(finished, manifest) == manifest
    manifest["spec"]["damping"] = 2.0
    manifest["spec"]["model"] = "m" * 100
    del manifest["side"]
    with pytest.raises(InputError) as raised:
        check_folder(finished, manifest)
    message = str(raised.value)
    assert message.startswith(f"{finished.path}: this run was made with other settings: ")
    assert "spec.damping was 0.5, now 2.0" in message
    assert "side was 2, now None" in message
    assert f"spec.model was none, now {'m' * 57}..." in message
    assert "blocks" not in message


def test_what_the_run_was_made_with_is_not_compared(finished: RunFolder) -> None:
    manifest = json.loads(finished.manifest.read_text())
    finished.done.unlink()  # which has the checksum of the other
    made = {**manifest, "made_with": {"versions": {}, "threads": 3}, "uncovered": {"weight": 0.1}}
    finished.manifest.write_text(json.dumps(made))
    assert check_folder(finished, manifest) == made


def test_a_run_of_another_format_or_with_a_damaged_manifest_is_refused(finished: RunFolder) -> None:
    manifest = json.loads(finished.manifest.read_text())
    older = json.dumps({**manifest, "format": 2})
    anew = "remove the folder and index the corpus again"
    repair = "damaged.*proponent check RUN --repair"
    for content, found in ((older, f"run format 2.*{anew}"), ('{"form', repair)):
        finished.manifest.write_text(content)
        with pytest.raises(InputError, match=found):
            check_folder(finished, manifest)


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    for path in (tmp_path, tmp_path / "letter.txt"):
        with pytest.raises(InputError, match="exists and is not a run; give a new or an empty folder"):
            check_folder(RunFolder(path), {})
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="run: a link to a folder that is not there"):
        check_folder(RunFolder(tmp_path / "run"), {})


def test_a_new_or_an_empty_folder_can_be_used(tmp_path: Path) -> None:
    for path in (tmp_path / "new", tmp_path):
        assert check_folder(RunFolder(path), {}) is None


def test_a_folder_that_holds_but_a_half_written_manifest_can_be_used(tmp_path: Path) -> None:
    """As a process leaves it that is killed before anything else is there."""
    folder = RunFolder(tmp_path)
    aside(folder.manifest).write_text('{"form')
    assert check_folder(folder, {}) is None
    with building(folder):
        pass
    start_build(tmp_path, made_up_features())
    names = ["moments.safetensors", "run.json", "sides.safetensors", "work"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_what_only_the_build_needed_can_be_removed_twice(tmp_path: Path) -> None:
    folder = start_build(tmp_path / "run", made_up_features()).folder
    for _ in range(2):
        remove_leftovers(folder)
        assert not folder.work.exists()
    assert folder.manifest.is_file()


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("spec", []),
        ("spec", {"model": "m", "hessian": False, "size": 0, "seed": 0}),
        ("corpus", {"passages": 1.5, "empty": 0, "fingerprint": ""}),
        ("model", None),
        ("side", True),
        ("blocks", {}),
        ("blocks", {"attention 0-0": "q_proj"}),
        ("uncovered", -1),
        ("uncovered", {"weight": "much"}),
        ("made_with", {"versions": {}, "threads": 1, "sample": [3]}),
        ("compacted", {"run": "elsewhere"}),
    ],
)
def test_a_manifest_that_holds_what_no_run_does_is_refused(
    part: str, value: object, finished: RunFolder
) -> None:
    """Whether the run is finished or not, with the remedy for it, and named by a check."""
    manifest = json.loads(finished.manifest.read_text())
    finished.manifest.write_text(json.dumps({**manifest, part: value}))
    with pytest.raises(InputError, match=rf"run.json: damaged \(its '{part}' is none of a run\).*--repair"):
        Index(finished.path)
    assert "run.json" in {finding.file for finding in check(finished.path).findings}
    finished.done.unlink()
    with pytest.raises(InputError, match=rf"run.json: damaged \(its '{part}' .* index the corpus again"):
        check_folder(finished, manifest)
    assert "run.json" in {finding.file for finding in check(finished.path).findings}
