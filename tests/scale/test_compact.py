"""Compact runs: what a tiny build writes and a search reads, and terms worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.models import FAMILIES
from tests.runs import CORPUS, model_folder, small_spec
from tests.scale.cases import NO_MODEL
from tests.scale.counting import Counted
from tests.scale.test_stages import by_name, tensor_bytes

import proponent as pp
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import load_model
from proponent.index.norms import row_norms
from proponent.index.run import Index
from proponent.index.signs import PLANES, encode_signs
from proponent.index.sketch import Sketch
from proponent.scale import cost
from proponent.scale.questions import Questions, trace_stages
from proponent.scale.shapes import FeatureShape, Job, shapes
from proponent.scale.stages import build_stages, compact_stage, sign_bytes

__all__ = ["model_folder"]
SIZE = 64
FEATURES = FeatureShape(blocks=2, side=3, identity=True, size=SIZE)
JOB = Job(NO_MODEL, FEATURES, passages=1000, tokens=8, text=50, kronecker=True)


@pytest.fixture(scope="module")
def compact(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, Job]:
    """A compact run of the tiny model, and the job that it is."""
    spec = small_spec(model_folder, second_moment="kronecker", size=SIZE)
    index = pp.build_index(CORPUS, spec, tmp_path_factory.mktemp("compact") / "run", "cpu")
    model = load_model(spec.model, device="cpu")
    assert len(plan_layers(model, spec.dim, spec.layer_groups).blocks) == index.blocks
    shape, features = shapes(model, spec.dim, spec.layer_groups)
    features = replace(features, identity=True, size=SIZE)
    return index, Job(shape, features, len(index), 48, kronecker=True)


def test_disk_of_a_compact_run_to_the_byte(compact: tuple[Index, Job]) -> None:
    (index, job), folder = compact, compact[0].folder
    rows, factors = (tensor_bytes(*(folder.path / name).iterdir()) for name in ("index", "whitening"))
    assert rows == job.passages * cost.index_bytes(job.features)
    assert factors == by_name(job)["mean eigenvalues"].written == cost.factor_bytes(job.features)
    assert cost.disk_bytes(job) == tensor_bytes(folder.moments, folder.sides) + rows + factors
    assert not (folder.path / "hessian").exists()
    assert cost.disk_bytes(job, finished=False) - cost.disk_bytes(job) == 4 * job.passages * (job.tokens + 1)
    assert by_name(job)["gradients"].written == rows
    assert not index.folder.work.exists()


def test_a_compact_build_ends_with_its_features() -> None:
    names = ["encoding", "second moments", "folding", "mean eigenvalues", "gradients"]
    assert [stage.name for stage in build_stages(JOB)] == names
    said = by_name(JOB)
    assert said["mean eigenvalues"].operations == 256 * cost.row_operations(JOB)
    row = cost.row_operations(JOB) + 18 + 2 * 512 * 9
    assert said["gradients"].operations == 1000 * row, "folded, turned, and turned back for the residual"
    assert said["gradients"].written == 1000 * (64 + 16 + 50)


def test_memory_of_encoding_is_an_upper_bound() -> None:
    rows, dim = 200, 2 * 32**2
    features, sketch = torch.randn(rows, dim), Sketch(dim, 8 * 256, 0)
    job = replace(JOB, features=FeatureShape(2, 32, True, 256), passages=rows)
    encode_signs(features[:1], row_norms(features[:1]), sketch)  # draws what is random
    with Counted() as counted:
        encode_signs(features, row_norms(features), sketch)
    assert counted.peak < sign_bytes(job) < 2 * counted.peak


def test_terms_of_a_search() -> None:
    assert cost.index_bytes(FEATURES) == 64 + 16
    assert cost.product_operations(FEATURES) == PLANES * 512
    scans = {stage.name: stage for stage in trace_stages(JOB, Questions(10))}
    assert scans["scan"].operations == 1000 * 10 * PLANES * 512
    assert scans["scan"].read == 2 * 1000 * 80
    assert scans["query whitening"].operations == 10 * (18 + 512 * 9)


def test_a_compact_run_made_of_a_full_one_reads_it_twice() -> None:
    stage, full = compact_stage(JOB), replace(FEATURES, size=0)
    copied = stage.written - 1000 * 80
    assert stage.read == 2 * 1000 * cost.index_bytes(full) + 2 * copied + 1000 * 80
    assert stage.operations == 1000 * cost.encoding_operations(FEATURES)


def test_what_grows_with_the_size_and_what_with_the_dimension() -> None:
    sizes = [replace(JOB, features=replace(FEATURES, size=size)) for size in (64, 512, 4096)]
    for figure in (cost.disk_bytes, lambda job: by_name(job)["gradients"].operations):
        found = [figure(job) for job in sizes]
        assert found == sorted(found)
        assert len(set(found)) == 3
    dims = [replace(JOB, features=replace(FEATURES, side=side)) for side in (3, 30)]
    rows = [cost.index_bytes(job.features) for job in dims]
    assert rows[0] == rows[1]
    assert by_name(dims[0])["gradients"].operations < by_name(dims[1])["gradients"].operations


def test_what_a_build_refuses_is_not_planned(tmp_path: Path) -> None:
    job = replace(JOB, features=replace(FEATURES, identity=False))
    with pytest.raises(pp.InputError, match="its R has to be the identity"):
        build_stages(job)
    FAMILIES["llama"]().save_pretrained(tmp_path)
    spec = pp.FeatureSpec(str(tmp_path), 70, 2, size=SIZE)
    with pytest.raises(pp.InputError, match="use --second-moment kronecker"):
        pp.plan(spec, 10_000, 40, "H100")
    made = pp.plan(replace(spec, second_moment="kronecker", hessian="identity"), 10_000, 40, "H100")
    assert made.values["size"] == SIZE
    assert made.values["scan"] == 250 * (SIZE + 16)
    assert made.values["scan_seconds"] == pytest.approx(250 * (SIZE + 16) / 2e9)
    assert "64 bytes of signs" in str(made)
