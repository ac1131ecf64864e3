"""A run damped anew against one that was built with that damping."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from proponent.build.finish import finish_run
from proponent.build.writing import start_run, write_raw_shard
from proponent.errors import InputError
from proponent.index.redamp import Redamped
from proponent.index.run import Index, Passage, RunFolder
from proponent.index.shrinkage import RULES, ledoit_wolf
from proponent.progress import Silent

BLOCKS, SIDE, ROWS = 2, 3, 30


def build(path: Path, damping: float | str) -> Index:
    torch.manual_seed(0)
    features = torch.randn(ROWS, BLOCKS * SIDE**2) * torch.linspace(0.1, 3, BLOCKS * SIDE**2)
    folder = RunFolder(path)
    manifest = {"spec": {"damping": damping}, "side": SIDE, "blocks": {"a": [], "b": []}}
    start_run(folder, manifest, {"m/rows": torch.ones(1), "m/columns": torch.ones(1)})
    passages = [Passage(str(n), str(n), f"text {n}") for n in range(ROWS)]
    write_raw_shard(
        folder, 0, passages, features, {"tokens": ROWS, "empty": 0, "too_short": 0, "resume_at": None}
    )
    finish_run(folder, BLOCKS, damping, Silent())
    return Index(path)


@pytest.mark.parametrize("damping", [0.01, 1.0, 30.0, "oas", "ledoit-wolf"])
def test_redamped_is_as_if_built_so(damping: float | str, tmp_path: Path) -> None:
    found, built = Redamped(build(tmp_path / "a", 0.5), damping), build(tmp_path / "b", damping)
    torch.testing.assert_close(found.eigenvalues, built.eigenvalues)
    for ours, theirs in zip(found.factors, built.factors, strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(found.pieces(), built.pieces(), strict=True):
        # two roundings to two bytes a coordinate lie between them
        torch.testing.assert_close(ours.whitened, theirs.whitened, rtol=5e-3, atol=5e-3)
        torch.testing.assert_close(ours.whitened_norm, theirs.whitened_norm, rtol=2e-3, atol=0)
        torch.testing.assert_close(ours.feature_norm, theirs.feature_norm)


def test_a_rule_reads_the_damping_off_each_block(tmp_path: Path) -> None:
    index = build(tmp_path / "a", 1.0)
    hessian = index.hessian()
    shares = [ledoit_wolf(b, ROWS, float(f)) for b, f in zip(hessian.blocks, hessian.fourth, strict=True)]
    assert 0 < shares[0] < 1
    found = {rule: Redamped(index, rule).dampings.tolist() for rule in RULES}
    assert found["ledoit-wolf"] == pytest.approx([s / (1 - s) for s in shares])
    assert found["oas"] != pytest.approx(found["ledoit-wolf"])


@pytest.mark.parametrize("damping", ["optimal", 0.0, -1.0])
def test_other_dampings_are_refused(damping: float | str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ledoit-wolf"):
        Redamped(build(tmp_path / "a", 1.0), damping)
