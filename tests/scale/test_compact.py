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
from tests.scale.test_questions import drawn, one_thread
from tests.scale.test_stages import by_name, tensor_bytes

import proponent as pp
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import load_model
from proponent.index.mix import TaskMix, TaskSubspace, task_eigenvalues
from proponent.index.norms import row_norms
from proponent.index.run import Index
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import search
from proponent.index.signs import PLANES, encode_signs
from proponent.index.sketch import Sketch
from proponent.index.whitening import ScaledIdentity, Whitening
from proponent.scale import cost, task
from proponent.scale.memory import sign_bytes
from proponent.scale.questions import Questions, trace_stages
from proponent.scale.sets import diverse_stage
from proponent.scale.shapes import FeatureShape, Job, shapes
from proponent.scale.stages import build_stages, compact_stage

__all__ = ["model_folder", "one_thread"]
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
    names = ["encoding", "second moments", "folding", "balancing", "mean eigenvalues", "gradients"]
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


@pytest.mark.parametrize("queries", [1, 20, 200])
def test_a_task_is_mixed_into_the_queries_before_the_scan(compact: tuple[Index, Job], queries: int) -> None:
    index, job = compact
    stages = {stage.name: stage for stage in trace_stages(job, Questions(queries, task=True))}
    phi, whitening = drawn(queries, job), index.whitening
    whitening.sketch(phi[:1])  # draws what is random
    with Counted() as mixed:
        task_eigenvalues(phi, index.blocks)
        subspace = TaskSubspace.of(phi, whitening)
        terms = QueryTerms(phi, whitening, subspace)
        scan = QueryScan(terms, InnerProduct("mixed", True, TaskMix(subspace, 0.9)))
    with Counted() as scanned:
        search(index.shards(), scan, 10)
    unseen = 6 * job.features.blocks * task.task_rank(job.features, queries) ** 3  # LAPACK's own
    unseen += queries * cost.sketch_operations(job.features)  # additions
    assert mixed.operations == stages["task mix"].operations - unseen
    assert 0.95 * mixed.peak < stages["task mix"].memory < 1.7 * mixed.peak
    assert 0.95 * scanned.peak < stages["scan"].memory < 3 * scanned.peak


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_memory_of_a_task_is_an_upper_bound_however_wide_the_sketch(size: int) -> None:
    job = replace(JOB, features=FeatureShape(2, 32, True, size))
    whitening = Whitening((ScaledIdentity(2.0, 32**2),) * 2, Sketch(job.features.dim, 8 * size, 0))
    phi = drawn(20, job)
    whitening.sketch(phi[:1])  # draws what is random
    with Counted() as counted:
        subspace = TaskSubspace.of(phi, whitening)
        inner = InnerProduct("mixed", True, TaskMix(subspace, 0.9))
        QueryScan(QueryTerms(phi, whitening, subspace), inner)
    said = {stage.name: stage for stage in trace_stages(job, Questions(20, task=True))}["task mix"]
    assert counted.peak < said.memory < 1.7 * counted.peak


def test_under_a_task_all_but_its_subspace_costs_what_it_does_without() -> None:
    plain, mixed = (trace_stages(JOB, Questions(10, task=task)) for task in (False, True))
    names = ["query gradients", "task mix", "scan", "token scores"]
    assert [stage.name for stage in mixed] == names
    assert [stage for stage in mixed if stage.name != "task mix"] == [plain[0], *plain[2:]]
    assert diverse_stage(JOB, Questions(10)) == diverse_stage(JOB, Questions(10, task=True))
    full = trace_stages(replace(JOB, features=replace(FEATURES, size=0)), Questions(10, task=True))
    extra = 10 * (2 * 9 * 18 + 18 + 512 * 9)  # of nine directions a block put together, and sketched
    assert mixed[1].operations == full[1].operations + extra
    assert mixed[3].operations == full[3].operations


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


def test_what_one_command_refuses_is_planned_as_two(tmp_path: Path) -> None:
    FAMILIES["llama"]().save_pretrained(tmp_path)
    spec = pp.FeatureSpec(str(tmp_path), 70, 2, size=SIZE)
    with pytest.raises(pp.InputError, match="use --second-moment kronecker"):
        pp.build_index(CORPUS, spec, tmp_path / "run")
    both = pp.plan(spec, 10_000, 40, "H100")
    assert [of.stage.name for of in both.stages][-2:] == ["whitening", "compacting"]
    made = pp.plan(replace(spec, second_moment="kronecker", hessian="identity"), 10_000, 40, "H100")
    assert made.values["size"] == SIZE
    assert made.values["scan"] == 250 * (SIZE + 16)
    assert made.values["scan_seconds"] == pytest.approx(250 * (SIZE + 16) / 2e9)
    assert "compacting" not in [of.stage.name for of in made.stages]
    assert "64 bytes of signs" in str(made)
