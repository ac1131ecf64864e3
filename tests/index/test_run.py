"""A finished run opened for search: what it gives, and every way in which it can be broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tests.index.cases import whitening_of
from tests.index.conftest import BLOCKS, DAMPING, SHARDS, SIDE, write_run
from torch import Tensor

from proponent.errors import InputError
from proponent.files import checksum, write_json
from proponent.index.damping import RULES, ledoit_wolf
from proponent.index.run import Index, RunFolder

FILES = (
    "run.json",
    "done.json",
    "moments.safetensors",
    "sides.safetensors",
    *(f"hessian/{b:02d}.safetensors" for b in range(BLOCKS)),
    *(f"whitening/{b:02d}.safetensors" for b in range(BLOCKS)),
    *(f"examples/{n:05d}.parquet" for n in range(len(SHARDS))),
    *(f"index/{n:05d}.safetensors" for n in range(len(SHARDS))),
)
REPAIR = "make it again with: proponent check RUN --repair"
ANEW = "remove the folder and index the corpus again with the same command"


def read_everything(path: Path) -> None:
    """All that a trace and `info` read of a run."""
    index = Index(path)
    _ = index.whitening, index.moments, index.sides, index.spectrum()
    _ = list(index.hessian()), list(index.shards())
    index.passages(range(len(index)))


def test_a_finished_run_has_these_files_and_no_others(run: RunFolder) -> None:
    found = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert found == set(FILES)


def test_rows_come_back_whitened_in_corpus_order(run: RunFolder, features: Tensor) -> None:
    shards = list(Index(run.path).shards())
    whitened = whitening_of(features, BLOCKS, DAMPING).whiten(features)
    assert [shard.first for shard in shards] == [0, 5, 6]
    found = torch.cat([shard.rows.decode() for shard in shards])
    # R_train and the rows were each rounded to two bytes a coordinate
    assert ((found - whitened).norm(dim=1) / whitened.norm(dim=1)).max() < 2e-3
    norms = torch.cat([shard.rows.norms for shard in shards])
    torch.testing.assert_close(norms, whitened.norm(dim=1), rtol=2e-3, atol=0)
    torch.testing.assert_close(
        torch.cat([shard.feature_norms for shard in shards]), features.norm(dim=1), rtol=1e-6, atol=0
    )


def test_a_part_of_a_shard_is_a_shard(run: RunFolder) -> None:
    _, _, last = Index(run.path).shards()
    first, part, *_ = last.parts(2)
    assert (first.first, part.first, len(part)) == (last.first, last.first + 2, 2)
    assert part.positions.tolist() == [8, 9]
    assert torch.equal(part.rows.decode(), last.rows.decode()[2:4])
    assert torch.equal(part.rows.norms, last.rows.norms[2:4])
    assert torch.equal(part.feature_norms, last.feature_norms[2:4])


def test_r_train_is_the_mean_over_all_shards(run: RunFolder, features: Tensor) -> None:
    for block, part in zip(Index(run.path).hessian(), features.split(SIDE**2, 1), strict=True):
        assert block.count == len(features)
        expected = part.T @ part / len(part)
        atol = 2e-3 * float(expected.diagonal().max())
        torch.testing.assert_close(block.matrix, expected, rtol=0, atol=atol)
        assert block.fourth == pytest.approx(float(part.norm(dim=1).pow(4).mean()), rel=5e-3)


@pytest.mark.parametrize("damping", [DAMPING, *RULES])
def test_the_spectrum_is_that_of_the_damped_r_train(
    damping: float | str, tmp_path: Path, features: Tensor
) -> None:
    index = Index(write_run(tmp_path / "run", features, damping=damping).path)
    assert torch.equal(index.spectrum(), index.whitening.eigenvalues)
    for found, block in zip(index.spectrum(), index.whitening.blocks, strict=True):
        expected = torch.linalg.eigvalsh(block.factor.double() @ block.factor.double().T).flip(0)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


def run_damped(path: Path, damping: float | str) -> RunFolder:
    """A run whose blocks differ in their shrinkage."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(30, BLOCKS * SIDE**2, generator=generator)
    features *= torch.logspace(-2, 1, BLOCKS * SIDE**2)
    return write_run(path, features, (20, 10), damping)


@pytest.mark.parametrize("damping", [0.01, 1.0, 30.0, *RULES])
@pytest.mark.parametrize("stored", [0.5, "oas"])
def test_another_damping_is_as_if_built_so(stored: float | str, damping: float | str, tmp_path: Path) -> None:
    found = Index(run_damped(tmp_path / "a", stored).path, damping)
    built = Index(run_damped(tmp_path / "b", damping).path)
    torch.testing.assert_close(found.spectrum(), built.spectrum())
    for ours, theirs in zip(found.whitening.blocks, built.whitening.blocks, strict=True):
        torch.testing.assert_close(ours.factor, theirs.factor)
        assert ours.damping == theirs.damping
    shards = list(zip(found.shards(), built.shards(), strict=True))
    assert len(shards) == 2
    for one, other in shards:
        assert one.first == other.first
        # two roundings to two bytes a coordinate lie between them
        torch.testing.assert_close(one.rows.decode(), other.rows.decode(), rtol=5e-3, atol=5e-3)
        torch.testing.assert_close(one.rows.norms, other.rows.norms, rtol=2e-3, atol=0)
        torch.testing.assert_close(one.feature_norms, other.feature_norms)


def test_another_damping_writes_no_file(tmp_path: Path) -> None:
    folder = run_damped(tmp_path / "run", 0.5)
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    index = Index(folder.path, "ledoit-wolf")
    _ = index.whitening, index.spectrum(), list(index.shards())
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before


def test_a_rule_reads_the_damping_off_each_block(tmp_path: Path) -> None:
    path = run_damped(tmp_path / "run", 1.0).path
    shares = [ledoit_wolf(block) for block in Index(path).hessian()]
    assert 0 < shares[0] < 1
    found = {rule: [block.damping.ridge for block in Index(path, rule).whitening.blocks] for rule in RULES}
    assert found["ledoit-wolf"] == pytest.approx(shares)
    assert found["oas"] != pytest.approx(found["ledoit-wolf"])


@pytest.mark.parametrize("damping", ["optimal", 0.0, -1.0])
def test_other_dampings_are_refused(run: RunFolder, damping: float | str) -> None:
    with pytest.raises(InputError, match="ledoit-wolf"):
        Index(run.path, damping)


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
        again = "build the run again" if name == "done.json" else REPAIR
        assert str(raised.value).endswith(again)
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
    with pytest.raises(InputError, match=rf"{name}: missing; {REPAIR}"):
        read_everything(run.path)


def test_a_file_cut_short_is_detected(run: RunFolder) -> None:
    path = run.index(0)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"index/00000.safetensors: damaged"):
        read_everything(run.path)


def test_a_file_is_compared_once_and_again_when_it_has_changed(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def noted(path: Path) -> str:
        compared.append(path.name)
        return checksum(path)

    monkeypatch.setattr("proponent.mirror.checksum", noted)
    index = Index(run.path)
    compared.clear()
    _ = list(index.shards()), list(index.shards())
    assert compared == [run.index(n).name for n in range(len(SHARDS))]
    os.utime(run.index(1), ns=(0, 0))  # as by a clock that was set back
    _ = list(index.shards())
    assert compared[len(SHARDS) :] == [run.index(1).name]
    content = bytearray(run.index(2).read_bytes())
    content[-1] ^= 1
    run.index(2).write_bytes(content)
    shards = index.shards()
    assert [next(shards).first, next(shards).first] == [0, 5], "what is sound can be used"
    with pytest.raises(InputError, match=r"00002.safetensors: damaged"):
        next(shards)


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


def test_a_run_of_another_format(run: RunFolder) -> None:
    manifest = json.loads(run.manifest.read_text())
    write_json(run.manifest, {**manifest, "format": 1})
    with pytest.raises(InputError, match=rf"run format 1, but this .* reads format 3; {ANEW}"):
        Index(run.path)


def test_totals_without_their_own_checksum_are_refused(run: RunFolder) -> None:
    summary = json.loads(run.done.read_text())
    assert len(summary.pop("checksum")) == 32
    write_json(run.done, summary)
    with pytest.raises(InputError, match=r"done\.json: damaged"):
        Index(run.path)
