"""Compact runs of a full run with R_train, whose first eigenvectors are kept: making and asking them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.models import FAMILIES, make_model
from tests.runs import CORPUS, model_folder, small_spec
from tests.scale.cases import NO_MODEL, made_up
from tests.scale.counting import Counted
from tests.scale.test_questions import drawn, one_thread
from tests.scale.test_stages import tensor_bytes

import proponent as pp
from proponent import files, mirror
from proponent.build import compact
from proponent.build.tasks import finish, later_stages
from proponent.gradients.model import load_model
from proponent.index import run as opened
from proponent.index.mix import TaskMix, TaskSubspace, task_eigenvalues
from proponent.index.run import Index
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import search
from proponent.index.sketch import sketch_of
from proponent.scale import bounds, cost, measuring, task
from proponent.scale.machines import ACCELERATORS, Assumed, Speeds, speeds_of, timed
from proponent.scale.plan import LIBRARIES, Plan
from proponent.scale.questions import Questions, trace_stages
from proponent.scale.shapes import FeatureShape, Job, shapes
from proponent.scale.stages import COMPACTING, build_stages, compact_stage

__all__ = ["model_folder", "one_thread"]
JOB = Job(NO_MODEL, FeatureShape(2, 32, size=64), passages=1000, tokens=8, text=50)


def full_run(path: Path, rows: int, side: int) -> Job:
    """A finished full run of random features of two blocks, and the job that it is."""
    build, job = made_up(path, rows, side)
    for todo in later_stages(build).values():
        for part in todo:
            build.marks.write(part.name, part.function(build, *part.numbers))
    finish(build)
    return job


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, Job]:
    """A compact run that keeps 256 of 1,024 eigenvectors a block, and the job that it is."""
    folder = tmp_path_factory.mktemp("runs")
    job = full_run(folder / "full", 700, 32)
    index = pp.compact(folder / "full", folder / "codes", 64)
    return index, replace(job, features=replace(job.features, size=64))


# --- shapes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize("size", [0, 64, 128, 4096])
def test_what_is_kept_is_what_the_index_keeps(size: int, identity: bool) -> None:
    features = FeatureShape(3, 16, identity, size)
    spec = {"size": size, "hessian": "identity" if identity else "train", "seed": 0}
    sketch = sketch_of(spec, 3, 256)
    assert features.whitened == (sketch.dim if sketch else features.dim)
    assert features.truncated == (features.kept < 256) == (size == 64 and not identity)
    assert features.compacted == (size > 0 and not identity)


def test_terms_by_hand() -> None:
    features = FeatureShape(2, 32, size=64)  # 512 signs, 256 of 1,024 eigenvectors a block
    assert (features.kept, features.whitened, features.stored) == (256, 512, 512)
    assert cost.whitening_operations(features) == cost.pull_back_operations(features) == 2 * 2 * 1024 * 256
    assert cost.inversion_operations(features) == 0
    assert cost.sketch_operations(features) == 512 + 512 * 9
    assert cost.factor_bytes(features) == 2 * (4 * 1024 * 256 + 4 * 1024 + 16)
    assert cost.truncation_operations(features) == (round(14 / 3 * 2 * 1024**3), 2 * 2 * 256 * 1024**2)


# --- making one -------------------------------------------------------------------------------------


SIZES = [(700, 32, 64), (700, 32, 128), (1200, 23, 64), (90, 24, 64), (1200, 16, 64)]  # the last keeps all


@pytest.mark.parametrize(("rows", "side", "size"), SIZES)
def test_making_one_does_and_holds_what_is_said(rows: int, side: int, size: int, tmp_path: Path) -> None:
    job = full_run(tmp_path / "full", rows, side)
    job = replace(job, features=replace(job.features, size=size))
    said, features = compact_stage(job), job.features
    assert features.truncated == (side > 16)
    with Counted() as counted:
        pp.compact(tmp_path / "full", tmp_path / "codes", size)
    vectors, _ = cost.truncation_operations(features)  # LAPACK's own
    unseen = vectors + rows * cost.encoding_operations(features)  # and additions
    assert counted.operations == said.operations - unseen
    least = 1 if features.truncated else 0.99  # norms are left out
    assert least * counted.peak < said.memory < 1.7 * counted.peak


@pytest.mark.parametrize("size", [64, 4096], ids=["truncated", "whole"])
def test_disk_and_files_to_the_byte(
    size: int, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec(model_folder, dim=4 * 16 * 16)
    full = pp.build_index(CORPUS, spec, tmp_path / "full", "cpu")
    moved = Moved(monkeypatch)
    codes = pp.compact(tmp_path / "full", tmp_path / "codes", size)
    read = moved.bytes
    shape, features = shapes(load_model(spec.model, device="cpu"), spec.dim, spec.layer_groups)
    job = Job(shape, replace(features, size=size), len(full), 48)
    assert job.features.truncated == (size == 64)
    sizes = [tensor_bytes(*index.folder.path.rglob("*.safetensors")) for index in (full, codes)]
    assert [cost.disk_bytes(of) for of in (job.built, job)] == sizes
    assert cost.disk_bytes(job, finished=False) == sum(sizes), "more than while the full one of few is built"
    said = compact_stage(job)
    assert said.written == sizes[1]
    assert said.read == read
    factors = tensor_bytes(*(codes.folder.path / "whitening").iterdir())
    assert factors == cost.factor_bytes(job.features)


class Moved:
    """Bytes of tensors that are read: as such, for a checksum, or to be copied."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        for module in (compact, opened):
            monkeypatch.setattr(module, "read_tensors", self._counting(module.read_tensors))
        for module in (files, mirror):
            monkeypatch.setattr(module, "checksum", self._counting(module.checksum))
        monkeypatch.setattr(shutil, "copyfile", self._counting(shutil.copyfile))

    def _counting(self, function: object) -> object:
        def read(path: Path, *others: Path) -> object:
            if ".safetensors" in path.name:
                self.bytes += tensor_bytes(path)
            return function(path, *others)  # type: ignore[operator]

        return read


def test_a_plan_has_the_stages_of_both_commands() -> None:
    names = ["encoding", "second moments", "gradients", "R", "R, summed", "factors", "whitening", COMPACTING]
    stages = build_stages(JOB)
    assert [stage.name for stage in stages] == names
    assert stages[:-1] == build_stages(replace(JOB, features=FeatureShape(2, 32)))
    sent = compact_stage(replace(JOB, workers=4)).network
    triangles = cost.triangle_bytes(JOB.built.features)
    assert sent == (1000 * (4096 + 12 + 50) + triangles) * 3 // 4, "it has a quarter itself"
    corrected = bounds.bounds(JOB.built)
    assert [bound for bound in bounds.bounds(JOB) if bound.name in ("R", "whitening")] == [*corrected[1:4]]
    assert all(bound.distance >= 1 for bound in bounds.bounds(JOB))
    most = [cost.disk_bytes(of, finished=False) for of in (JOB, JOB.built)]
    assert most[0] == most[1], "more than the full run of many passages and the compact one"


# --- asking one -------------------------------------------------------------------------------------


@pytest.mark.parametrize("queries", [1, 20, 300, 1100])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_trace_does_and_holds_what_is_said(made: tuple[Index, Job], queries: int, mixed: bool) -> None:
    (index, job), phi = made, drawn(queries, made[1])
    stages = {stage.name: stage for stage in trace_stages(job, Questions(queries, task=mixed))}
    sketch, inner = index.whitening.sketch, InnerProduct("train", unit_norm=True)
    assert sketch is not None
    sketch(phi[:1, : sketch.dim])  # draws what is random
    with Counted() as whitened:
        whitening, subspace = replace(Index(index.folder.path).whitening, sketch=sketch), None
        if mixed:
            task_eigenvalues(phi, index.blocks)
            subspace = TaskSubspace.of(phi, whitening)
            inner = InnerProduct("mixed", True, TaskMix(subspace, 0.9))
        scan = QueryScan(QueryTerms(phi, whitening, subspace), inner)
    with Counted() as scanned:
        search(index.shards(), scan, 10)
    said = stages["task mix" if mixed else "query whitening"]
    unseen = queries * cost.sketch_operations(job.features)
    if mixed:  # LAPACK's own
        cubes = 4 / 3 * min(queries, 1024) ** 3 + 14 / 3 * task.task_rank(job.features, queries) ** 3
        unseen += job.features.blocks * round(cubes)
    assert whitened.operations == said.operations - unseen
    assert 0.95 * whitened.peak < said.memory < 1.7 * whitened.peak
    joined = 20 * len(index)  # of shards of signs numbers a row, which are left out
    assert 0.95 * (scanned.peak - joined) < stages["scan"].memory < 3 * scanned.peak


def test_directions_are_pulled_back_by_a_product(made: tuple[Index, Job]) -> None:
    index, job = made
    terms = QueryTerms(drawn(4, job), index.whitening)
    with Counted() as counted:
        terms.directions(InnerProduct("train", unit_norm=True))
    each = cost.pull_back_operations(job.features) + cost.whitening_operations(job.features)
    assert counted.operations == 4 * each
    asked = [trace_stages(job, Questions(1, targets=n, k=0))[-1].operations for n in (1, 2)]
    row = cost.gradient_operations(NO_MODEL, 32, 1) + cost.feature_operations(NO_MODEL, job.features, 32)
    assert asked[1] - asked[0] == row + each


# --- a plan -----------------------------------------------------------------------------------------


def test_the_host_of_an_accelerator_compacts_at_three_speeds() -> None:
    card, assumed = ACCELERATORS["H100"], Assumed(cores=3, core=7.0)
    speeds = speeds_of(card, JOB, pp.FeatureSpec("m", size=64), assumed)
    vectors, matrices = cost.truncation_operations(JOB.features)
    products = matrices + 1000 * cost.turning_operations(JOB.features)
    signs = 1000 * cost.encoding_operations(JOB.features)
    seconds = (products + 4 * vectors + 50 * signs) / 21
    assert compact_stage(JOB).operations / speeds.rates[COMPACTING] == pytest.approx(seconds)
    same = speeds_of(card, JOB.built, pp.FeatureSpec("m"), assumed).rates
    assert {name: rate for name, rate in speeds.rates.items() if name != COMPACTING} == same


def test_a_plan_of_both_commands(tmp_path: Path) -> None:
    FAMILIES["llama"]().save_pretrained(tmp_path)
    spec = pp.FeatureSpec(str(tmp_path), 4 * 16 * 16, 2, size=64)
    made, full = (pp.plan(of, 10_000, 40, "H100", workers=2) for of in (spec, replace(spec, size=0)))
    values, job = made.values, made.job
    assert [stage["name"] for stage in values["stages"]][-1] == COMPACTING
    assert made.stages[:-1] == full.stages
    assert (made.stages[-1].workers, values["size"], values["scan"]) == (1, 64, 250 * (64 + 16))
    assert values["disk_of_full_run"] == full.values["disk"] == cost.disk_bytes(job.built)
    assert values["disk_while_built"] >= values["disk"] + values["disk_of_full_run"]
    said = str(made)
    assert "64 bytes of signs of 512 coordinates" in said
    assert "with the full run, whose" in said
    assert "proponent compact" in said
    assert "proponent compact" not in str(full)
    assert full.values["disk_of_full_run"] == 0


@pytest.mark.parametrize("size", [64, 4096], ids=["truncated", "whole"])
def test_a_measurement_of_both_commands(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "FILE", 2**12)
    monkeypatch.setattr(measuring, "LONG_ENOUGH", 0.0)
    model = make_model(tmp_path / "model")
    spec = pp.FeatureSpec(str(model), 4 * 16 * 16, 2, batch_tokens=256, size=size)
    made = pp.plan(spec, 8_000, 40, "cpu")
    spent = {of.stage.name: of for of in made.stages}
    assert set(spent) == {stage.name for stage in build_stages(made.job)}
    assert 0 < spent[COMPACTING].compute < 600
    assert made.memory > made.weights


def test_the_command_that_compacts_loads_no_model() -> None:
    job = replace(JOB, features=FeatureShape(2, 64, size=64), passages=10)
    for parameters, largest in ((100, COMPACTING), (10**9, "factors")):
        of = replace(job, model=replace(NO_MODEL, parameters=parameters))
        made = timed(of, Speeds({}, disk=1.0, network=1.0))
        plan = Plan(pp.FeatureSpec("m", size=64), of, made, Assumed(), "cpu")
        memory = {stage.name: stage.memory for stage in build_stages(of)}
        weights = 0 if largest == COMPACTING else plan.weights
        assert plan.memory == LIBRARIES + weights + memory[largest]
