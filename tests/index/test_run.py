"""A finished run opened for search: what it gives, and every way in which it can be broken."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tests.index.conftest import BLOCKS, DAMPING, SHARDS, SIDE, write_raw, write_run
from torch import Tensor

from proponent.build.finish import finish_run
from proponent.build.writing import building, check_folder, start_run
from proponent.errors import InputError
from proponent.files import aside, checksum, write_json, write_sealed_json
from proponent.index.hessian import HessianSums, whiten
from proponent.index.run import Index, RunFolder
from proponent.progress import Silent

FILES = (
    "run.json",
    "done.json",
    "moments.safetensors",
    "hessian.safetensors",
    "whitening.safetensors",
    "spectrum.safetensors",
    *(f"examples/{n:05d}.parquet" for n in range(len(SHARDS))),
    *(f"index/{n:05d}.safetensors" for n in range(len(SHARDS))),
)


def read_everything(path: Path) -> None:
    """All that a trace and `info` read of a run."""
    index = Index(path)
    _ = index.factors, index.moments, index.eigenvalues, index.hessian()
    list(index.pieces())
    index.passages(range(len(index)))


def test_a_finished_run_has_these_files_and_no_others(run: RunFolder) -> None:
    found = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert found == set(FILES)


def test_rows_come_back_whitened_in_corpus_order(run: RunFolder, features: Tensor) -> None:
    index = Index(run.path)
    sums = HessianSums(BLOCKS, SIDE**2)
    sums.add(features)
    whitened = whiten(features, sums.mean().factors(torch.full((BLOCKS,), DAMPING)))
    pieces = list(index.pieces())
    assert [piece.first for piece in pieces] == [0, 5, 6]
    found = torch.cat([piece.whitened for piece in pieces])
    # R_train and the rows were each rounded to two bytes a coordinate
    assert ((found - whitened).norm(dim=1) / whitened.norm(dim=1)).max() < 2e-3
    norms = torch.cat([piece.whitened_norm for piece in pieces])
    torch.testing.assert_close(norms, whitened.norm(dim=1), rtol=2e-3, atol=0)
    torch.testing.assert_close(
        torch.cat([piece.feature_norm for piece in pieces]), features.norm(dim=1), rtol=1e-3, atol=0
    )


def test_a_part_of_a_piece_is_a_piece(run: RunFolder) -> None:
    _, _, last = Index(run.path).pieces()
    part = last.part(1, 3)
    assert (part.first, len(part)) == (last.first + 1, 2)
    assert torch.equal(part.whitened, last.whitened[1:3])
    assert torch.equal(part.whitened_norm, last.whitened_norm[1:3])
    assert torch.equal(part.feature_norm, last.feature_norm[1:3])


def test_r_train_is_the_mean_over_all_shards(run: RunFolder, features: Tensor) -> None:
    hessian = Index(run.path).hessian()
    assert hessian.count == len(features)
    for block, part in zip(hessian.blocks, features.split(SIDE**2, 1), strict=True):
        expected = part.T @ part / len(part)
        torch.testing.assert_close(block, expected, rtol=0, atol=2e-3 * float(expected.diagonal().max()))


def test_eigenvalues_are_those_of_the_damped_r_train(run: RunFolder) -> None:
    index = Index(run.path)
    for found, factor in zip(index.eigenvalues, index.factors, strict=True):
        expected = torch.linalg.eigvalsh(factor.double() @ factor.double().T).flip(0)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


def test_passages_are_found_by_position_across_shards(run: RunFolder) -> None:
    index = Index(run.path)
    found = index.passages([9, 0, 5, 4, 9, 6])
    assert {n: (p.id, p.source, p.text) for n, p in found.items()} == {
        n: (f"p{n}", f"source of p{n}", f"text {n}") for n in (0, 4, 5, 6, 9)
    }
    assert index.passages([]) == {}


def test_only_the_shards_that_are_needed_are_read(run: RunFolder) -> None:
    run.examples(1).unlink()
    index = Index(run.path)
    assert index.passages([0, 6])[6].text == "text 6"
    with pytest.raises(InputError, match=r"examples/00001.parquet: missing"):
        index.passages([5])


WITHOUT_PANDAS = """
import sys
from pathlib import Path
from tests.index.conftest import made_up_features, write_run
from proponent.index.run import Index
run = write_run(Path(sys.argv[1]), made_up_features())
print(Index(run.path).passages([7])[7].text, "pandas" in sys.modules)
"""


def test_passages_are_written_and_read_without_pandas(tmp_path: Path) -> None:
    """Where it is installed, pyarrow imports it at its first look at a list: 55 MB and 0.14 s."""
    assert find_spec("pandas"), "without it, pyarrow has nothing to import"
    command = [sys.executable, "-c", WITHOUT_PANDAS, str(tmp_path / "run")]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=root)
    assert done.stdout == "text 7 False\n"


def test_totals(run: RunFolder, features: Tensor) -> None:
    index = Index(run.path)
    assert len(index) == len(features) == 10
    assert (index.blocks, index.dim) == (BLOCKS, BLOCKS * SIDE**2)
    assert index.summary["tokens"] == 70
    assert index.summary["skipped"] == {"empty": 3, "too_short": 0, "not_finite": []}
    assert index.size() == sum((run.path / name).stat().st_size for name in FILES)
    assert index.check() == len(FILES) - 1  # done.json vouches for the others


def test_rows_that_are_not_finite_never_reach_r(tmp_path: Path, features: Tensor) -> None:
    broken = torch.cat([features, torch.ones(4, features.shape[1])])
    broken[10, 3] = float("nan")
    broken[11, 0] = float("inf")
    broken[12, 0] = -float("inf")
    broken[13] = 1e25  # finite, its square is not
    index = Index(write_run(tmp_path / "broken", broken, (*SHARDS, 4)).path)
    sound = Index(write_run(tmp_path / "sound", features).path)
    assert index.summary["skipped"]["not_finite"] == ["p10", "p11", "p12", "p13"]
    assert len(index) == 10
    for one, other in zip(index.hessian().blocks, sound.hessian().blocks, strict=True):
        assert torch.equal(one, other)
    assert len(list(index.pieces())) == len(SHARDS)
    assert max(index.passages(range(10))) == 9


def test_a_run_of_no_sound_row_is_refused(tmp_path: Path, features: Tensor) -> None:
    with pytest.raises(InputError, match="no passage of the corpus gave a finite gradient"):
        write_run(tmp_path / "run", features * float("nan"))
    with pytest.raises(InputError, match="unfinished"):
        Index(tmp_path / "run")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_detected_and_the_file_named(run: RunFolder, name: str) -> None:
    path = run.path / name
    content = path.read_bytes()
    for position in {0, len(content) // 3, len(content) // 2, len(content) - 2}:
        flipped = bytearray(content)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(InputError, match=rf"{name}: damaged") as raised:
            read_everything(run.path)
        assert "build the run again" in str(raised.value)
    path.write_bytes(content)
    read_everything(run.path)


@pytest.mark.parametrize("change", [('"rows": 10', '"rows": 11'), ("    5,", "    6,")])
def test_a_changed_number_in_the_totals_is_detected(run: RunFolder, change: tuple[str, str]) -> None:
    text = run.done.read_text()
    assert change[0] in text
    run.done.write_text(text.replace(*change))
    with pytest.raises(InputError, match=r"done.json: damaged"):
        Index(run.path)


@pytest.mark.parametrize("name", FILES)
def test_check_reads_every_file(run: RunFolder, name: str) -> None:
    content = bytearray((run.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (run.path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: damaged"):
        Index(run.path).check()


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("run.json", "done.json")])
def test_a_missing_file_is_named(run: RunFolder, name: str) -> None:
    (run.path / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: missing; build the run again"):
        read_everything(run.path)


def test_a_file_cut_short_is_detected(run: RunFolder) -> None:
    path = run.index(0)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"index/00000.safetensors: damaged"):
        read_everything(run.path)


def test_shards_that_were_swapped_are_detected(run: RunFolder) -> None:
    first, last = run.index(0).read_bytes(), run.index(2).read_bytes()
    run.index(0).write_bytes(last)
    run.index(2).write_bytes(first)
    with pytest.raises(InputError, match=r"index/00000.safetensors: damaged"):
        read_everything(run.path)


def test_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match=r"not a run \(no run.json\); make one with: proponent index"):
            Index(path)


def test_an_unfinished_run(run: RunFolder) -> None:
    run.done.unlink()
    with pytest.raises(InputError, match="this run is unfinished; run the same 'proponent index' again"):
        Index(run.path)


def test_a_run_of_another_format(run: RunFolder, features: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(run.path)
    monkeypatch.setattr("proponent.build.writing.FORMAT", 1)
    write_run(run.path, features)
    with pytest.raises(InputError, match="run format 1, this version reads format 2"):
        Index(run.path)


def test_a_run_with_other_settings_is_refused_naming_them(run: RunFolder) -> None:
    manifest = json.loads(run.manifest.read_text())
    check_folder(run, manifest)
    manifest["spec"]["damping"] = 2.0
    manifest["spec"]["model"] = "m" * 100
    del manifest["side"]
    with pytest.raises(InputError) as raised:
        check_folder(run, manifest)
    message = str(raised.value)
    assert message.startswith(f"{run.path}: this run was made with other settings: ")
    assert "spec.damping was 0.5, now 2.0" in message
    assert "side was 2, now None" in message
    assert f"spec.model was None, now {'m' * 57}..." in message
    assert "blocks" not in message


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    for path in (tmp_path, tmp_path / "letter.txt"):
        with pytest.raises(InputError, match="exists and is not a run; give a new or an empty folder"):
            check_folder(RunFolder(path), {})
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_folder_that_holds_but_a_half_written_manifest_can_be_used(tmp_path: Path) -> None:
    """As a process leaves it that is killed before anything else is there."""
    folder = RunFolder(tmp_path)
    aside(folder.manifest).write_text('{"form')
    check_folder(folder, {})
    with building(folder):
        pass
    start_run(folder, {"spec": {}}, {"matrix/rows": torch.ones(1)})
    check_folder(folder, {"spec": {}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moments.safetensors", "raw", "run.json"]


@pytest.mark.parametrize("kept", [0, 1])
def test_finishing_goes_on_from_the_files_that_are_there(tmp_path: Path, kept: int) -> None:
    """Files that are whole are not written again, those that are missing come out the same.

    Also a shard of one row, whose products would be rounded otherwise if it were whitened alone.
    """
    features = torch.randn(41, BLOCKS * 1024, generator=torch.Generator().manual_seed(0))
    folder = write_run(tmp_path / "whole", features, (40, 1))
    again = write_raw(tmp_path / "again", features, (40, 1))
    for file, copy in ((folder.hessian, again.hessian), (folder.index(kept), again.index(kept))):
        copy.parent.mkdir(exist_ok=True)
        shutil.copy2(file, copy)
        write_sealed_json(again.seal(copy), {"checksum": checksum(copy)})
    stamp = again.index(kept).stat().st_mtime_ns
    finish_run(again, BLOCKS, DAMPING, Silent())
    assert again.index(kept).stat().st_mtime_ns == stamp
    content, found = (
        {path.relative_to(made.path): path.read_bytes() for path in made.path.rglob("*") if path.is_file()}
        for made in (folder, again)
    )
    assert found == content


def test_totals_without_their_own_checksum_are_refused(run: RunFolder) -> None:
    summary = json.loads(run.done.read_text())
    assert len(summary.pop("sha256")) == 64
    write_json(run.done, summary)
    with pytest.raises(InputError, match=r"done\.json: damaged"):
        Index(run.path)
