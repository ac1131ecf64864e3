"""The stages of a build against what torch does in them and what they read and write."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs import SlowRun, model_folder, run
from tests.scale.cases import (
    DIM,
    GROUPS,
    NO_MODEL,
    UNFUSED_BACKWARD,
    UNFUSED_FORWARD,
    job_of,
    made_up,
    ones,
    small_model,
    token_rows,
)
from tests.scale.counting import Counted
from torch import Tensor

from proponent.build import tasks
from proponent.build.tasks import Build, later_stages
from proponent.gradients import kronecker
from proponent.gradients.balance import balanced
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.kronecker import KroneckerFactors, sample_kronecker
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import fold_moments, sample_moments
from proponent.gradients.projection import gaussian_projection
from proponent.gradients.spec import FeatureSpec
from proponent.gradients.sweep import Sweep
from proponent.index.codec import Rows
from proponent.index.storage import read_tensors
from proponent.scale import cost, questions
from proponent.scale.exact import exact_stage
from proponent.scale.questions import Questions
from proponent.scale.shapes import FeatureShape, Job, shapes
from proponent.scale.stages import Stage, build_stages

__all__ = ["model_folder", "run"]

TITLES = {"R_train": "R", "R_train, summed": "R, summed", "factors and eigenvalues": "factors"}
JOB = Job(NO_MODEL, FeatureShape(2, 3), passages=1000, tokens=8, text=50)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So that all that is done is done by the thread that counts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def by_name(job: Job) -> dict[str, Stage]:
    return {stage.name: stage for stage in build_stages(job)}


def tensor_bytes(*files: Path) -> int:
    """Bytes of the tensors in some files, their headers apart."""
    return sum(tensor.nbytes for file in files for tensor in read_tensors(file).values())


@pytest.mark.parametrize("task", [True, False])
def test_the_functions_that_spend_are_there(task: bool) -> None:
    asked = Questions(10, task=task)
    asking = (questions.tail_patch_stage(JOB, asked), exact_stage(JOB, asked, 100))
    every = (*build_stages(JOB), *questions.trace_stages(JOB, asked), *asking)
    assert len({stage.name for stage in every}) == len(every)
    for stage in every:
        names, found = stage.spends.split("."), None
        for depth in range(len(names), 0, -1):
            try:
                found = importlib.import_module(".".join(names[:depth]))
            except ModuleNotFoundError:
                continue
            break
        for name in names[depth:]:
            found = getattr(found, name)
        assert callable(found), stage.spends


# --- the pass ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "tokens"), [(4, 33), (2, 129)])
def test_operations_of_the_pass_are_those_that_torch_does(rows: int, tokens: int) -> None:
    model = small_model("eager")
    job, plan = job_of(model, rows, tokens), plan_layers(model, DIM, GROUPS)
    extractor = FeatureExtractor(model, plan, fold_moments(plan, ones(model), 0), job.batch_tokens)
    given, starts = token_rows(rows, tokens), [1] * rows
    with Counted() as features:
        extractor(given, starts, "loss")
    with Counted() as moments:
        sample_moments(Sweep(model, plan.matrices, job.batch_tokens), given, starts)
    fused = cost.ATTENTION_FORWARD + cost.ATTENTION_BACKWARD
    attention = rows * (tokens - 1) ** 2 * job.model.attention
    more = (UNFUSED_FORWARD + UNFUSED_BACKWARD - fused) * attention
    assert features.operations == by_name(job)["gradients"].operations + more
    assert moments.operations == by_name(job)["second moments"].operations + more


@pytest.mark.parametrize(("rows", "tokens"), [(4, 33), (2, 129), (1, 257)])
def test_memory_of_the_pass_is_that_of_its_tensors(rows: int, tokens: int) -> None:
    model = small_model("sdpa")
    job, plan = job_of(model, rows, tokens), plan_layers(model, DIM, GROUPS)
    extractor = FeatureExtractor(model, plan, fold_moments(plan, ones(model), 0), job.batch_tokens)
    given, starts = token_rows(rows, tokens), [1] * rows
    with Counted() as features:
        extractor(given, starts, "loss")
    with Counted() as moments:
        sample_moments(Sweep(model, plan.matrices, job.batch_tokens), given, starts)
    sides = cost.side_bytes(job.model, job.features)  # made before
    assert by_name(job)["gradients"].memory - sides == pytest.approx(features.peak, rel=0.05)
    assert by_name(job)["second moments"].memory == pytest.approx(moments.peak, rel=0.06)


def kronecker_job(rows: int, tokens: int) -> tuple[LanguageModel, Job]:
    model = small_model("sdpa")
    return model, replace(job_of(model, rows, tokens), kronecker=True)


@pytest.mark.parametrize("at_once", [2**27, 60_000])
@pytest.mark.parametrize(("rows", "tokens"), [(4, 33), (2, 129)])
def test_operations_and_memory_of_kronecker_factors(
    rows: int, tokens: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kronecker, "AT_ONCE", at_once)
    folds: list[int] = []
    monkeypatch.setattr(KroneckerFactors, "fold", lambda *_: folds.append(1))
    model, job = kronecker_job(rows, tokens)
    plan = plan_layers(model, DIM, GROUPS)
    sweep = Sweep(model, plan.matrices, job.batch_tokens)
    projection = partial(gaussian_projection, side=plan.side, seed=0)
    with Counted() as counted:
        sample_kronecker(sweep, token_rows(rows, tokens), [1] * rows, projection)
    said = by_name(job)["second moments"]
    # fused attention on a processor is not counted at all
    plain = by_name(replace(job, model=replace(job.model, attention=0)))["second moments"]
    assert plain.operations == pytest.approx(counted.operations, rel=1e-9)
    assert said.memory == pytest.approx(counted.peak, rel=0.4 if len(job.model.sweeps) > 1 else 0.2)
    assert said.memory > 0.95 * counted.peak
    assert len(folds) == len(plan.matrices)
    assert (len(job.model.sweeps) > 1) == (at_once < 2**27)


def test_operations_and_memory_of_folding_kronecker_factors() -> None:
    model, job = kronecker_job(4, 33)
    plan = plan_layers(model, DIM, GROUPS)
    widths = [(m.outputs, m.inputs) for m in plan.matrices]
    assert sorted(job.model.factors) == sorted(width for outs, i in widths for width in (*outs, i))
    operations = peak = 0
    for matrix, (outputs, inputs) in zip(plan.matrices, widths, strict=True):
        factors = KroneckerFactors(tuple(map(torch.eye, outputs)), torch.eye(inputs))
        with Counted() as counted:
            factors.fold(gaussian_projection(matrix, plan.side, 0))
        operations, peak = operations + counted.operations, max(peak, counted.peak)
    said = by_name(job)["folding"]
    cubes = sum(width**3 for width in job.model.factors)
    # LAPACK's own part is 14/3 of every cube, which torch does not see
    assert said.operations == operations + round(14 / 3 * cubes)
    # in small factors what is beside them counts, and LAPACK's own work, as large as the factor, is not seen
    assert said.memory - 4 * job.model.summed == pytest.approx(peak + 8 * 160**2, rel=0.05)


def test_operations_and_memory_of_balancing() -> None:
    rows, tokens = 90, 9
    model, job = kronecker_job(rows, tokens)
    plan = plan_layers(model, DIM, GROUPS)
    folded = {m.name: gaussian_projection(m, plan.side, 0) for m in plan.matrices}
    extractor, starts = FeatureExtractor(model, plan, folded, job.batch_tokens), [1] * rows
    with Counted() as made:
        features = extractor(token_rows(rows, tokens), starts, "loss")
    with Counted() as counted:
        balanced(plan, folded, features)
    said = by_name(replace(job, sample=rows, model=replace(job.model, attention=0)))["balancing"]
    cubes = 2 * len(plan.blocks) * plan.side**3
    # LAPACK's own part is 14/3 of every cube, which torch does not see
    assert said.operations == made.operations + counted.operations + round(14 / 3 * cubes)
    peak = max(made.peak + cost.side_bytes(job.model, job.features), 4 * rows * plan.dim + counted.peak)
    assert 0.95 * peak < said.memory < 1.7 * peak


# --- the later stages -------------------------------------------------------------------------------

SIZES = [(700, 32), (600, 8), (300, 17)]


@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize(("rows", "side"), SIZES)
def test_later_stages_do_and_hold_what_is_said(tmp_path: Path, rows: int, side: int, identity: bool) -> None:
    build, job = made_up(tmp_path / "run", rows, side, identity)
    said = by_name(job)
    for title, todo in later_stages(build).items():
        operations = peak = 0
        for task in todo:
            with Counted() as counted:
                task.run(build)
            operations, peak = operations + counted.operations, max(peak, counted.peak)
        stage = said[TITLES.get(title, title)]
        assert stage.tasks == len(todo)
        if stage.name == "factors":  # LAPACK's own, which torch does not see
            assert operations == 0
        else:
            assert operations == stage.operations, stage
        # one span alone has nothing to add, and a number a block is less than what is left out
        if stage.name != "R, summed" and (not identity or stage.name in ("R", "whitening")):
            # in small blocks of R what is beside them counts
            assert stage.memory == pytest.approx(peak, rel=0.25 if side < 32 else 0.02), stage


def test_two_parts_of_a_block_are_held_while_they_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "SPAN_SHARDS", 1)
    build, job = made_up(tmp_path / "run", 700, 32)
    stages = later_stages(build)
    for task in stages["R_train"]:
        task.run(build)
    with Counted() as counted:
        stages["R_train, summed"][0].run(build)
    assert by_name(job)["R, summed"].memory == pytest.approx(counted.peak, rel=0.01)


class Reading:
    """Bytes of the tensors that tasks read from files under each folder of a run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes: dict[str, int] = {}
        monkeypatch.setattr(tasks, "read_tensors", self.read)

    def read(self, path: Path) -> dict[str, Tensor]:
        self.bytes[path.parent.name] = self.bytes.get(path.parent.name, 0) + tensor_bytes(path)
        return read_tensors(path)


@pytest.fixture(params=[False, True], ids=["R", "identity"])
def three_shards(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Build, Job]:
    return made_up(tmp_path / "run", 1200, 8, request.param)


def test_files_of_the_later_stages(three_shards: tuple[Build, Job], monkeypatch: pytest.MonkeyPatch) -> None:
    build, job = three_shards
    said, reading, columns = by_name(job), Reading(monkeypatch), Columns(monkeypatch)
    folder, places = build.folder.path, {}
    for title, todo in later_stages(build).items():
        reading.bytes.clear()
        for task in todo:
            task.run(build)
        places[title] = dict(reading.bytes)
    sums, triangle = said["R"].written, said["R, summed"].written
    factors, rows = said["factors"].written, said["whitening"].written
    assert sums == tensor_bytes(*(folder / "work" / "hessian").iterdir())
    assert triangle == tensor_bytes(*(folder / "hessian").iterdir())
    assert factors == tensor_bytes(*(folder / "whitening").iterdir())
    assert rows == tensor_bytes(*(folder / "index").iterdir())
    # the blocks of a row are mapped together and read one by one; what is written is read for its checksum
    assert columns.bytes == 2 * 1200 * 128
    assert said["R"].read == columns.bytes + 8 * 1200 + sums
    assert places["R_train, summed"] == {"hessian": said["R, summed"].read - triangle}
    assert places["factors and eigenvalues"] == {"hessian": said["factors"].read - factors}
    assert job.groups == 2
    assert places["whitening"] == {"features": 1200 * (256 + 8), "whitening": 2 * factors}
    assert said["whitening"].read == sum(places["whitening"].values()) + rows


class Columns:
    """Bytes of codes that are decoded by columns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes, self._whole = 0, Rows.columns
        monkeypatch.setattr(Rows, "columns", lambda rows, start, stop: self.read(rows, start, stop))

    def read(self, rows: Rows, start: int, stop: int) -> Tensor:
        self.bytes += 2 * len(rows) * (stop - start)
        return self._whole(rows, start, stop)


def test_what_is_written_is_read_for_its_checksum(
    three_shards: tuple[Build, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Path] = []
    whole = tasks.write_tensors

    def write(path: Path, tensors: dict[str, Tensor], note: Any) -> None:
        whole(path, tensors, lambda found: (checked.append(path), note(found)))

    monkeypatch.setattr(tasks, "write_tensors", write)
    build, _ = three_shards
    for todo in later_stages(build).values():
        for task in todo:
            task.run(build)
    written = [
        path for name in ("index", "whitening", "hessian") for path in (build.folder.path / name).iterdir()
    ]
    assert set(written) <= set(checked)


def test_disk_of_a_finished_index_to_the_byte(run: SlowRun) -> None:
    index, spec = run.index, FeatureSpec.from_dict(run.index.spec)
    folder = index.folder
    files = [
        folder.moments,
        folder.sides,
        *(f for n in ("index", "hessian", "whitening") for f in (folder.path / n).iterdir()),
    ]
    job = Job(*shapes(run.model, spec.dim, spec.layer_groups), len(index), 48)
    assert cost.disk_bytes(job) == tensor_bytes(*files)
    text = sum(file.stat().st_size for file in (folder.path / "examples").iterdir())
    assert cost.disk_bytes(job) + text < index.size(), "headers and run.json"


def test_disk_while_an_index_is_built(three_shards: tuple[Build, Job]) -> None:
    build, job = three_shards
    for todo in later_stages(build).values():
        for task in todo:
            task.run(build)
    files = [f for f in build.folder.path.rglob("*.safetensors") if f.parent != build.folder.path]
    before = cost.moment_bytes(job.model) + cost.side_bytes(job.model, job.features)
    staged = 4 * job.passages * (job.tokens + 1)
    assert cost.disk_bytes(job, finished=False) - before - staged == tensor_bytes(*files)
