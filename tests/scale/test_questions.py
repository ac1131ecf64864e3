"""The stages of a trace and a tail-patch against what torch does in them and what they read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs import QUERIES, SlowRun, model_folder, run
from tests.scale.cases import (
    DIM,
    GROUPS,
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

from proponent import mirror
from proponent.attribute import tokens, tracing
from proponent.attribute.tail_patch import PatchStep, TailPatcher
from proponent.attribute.tracing import Tracer
from proponent.build.tasks import finish, later_stages
from proponent.corpus.example import EncodedQuery
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.layers import plan_layers
from proponent.gradients.moments import fold_moments
from proponent.gradients.token_scores import token_scores
from proponent.index import mix
from proponent.index import run as opened
from proponent.index.mix import TaskMix, TaskSubspace, automatic_mix, task_eigenvalues
from proponent.index.run import Index
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import search
from proponent.scale import cost, questions
from proponent.scale.questions import Questions, tail_patch_stage, trace_stages
from proponent.scale.shapes import Job, shapes
from proponent.scale.stages import Stage

__all__ = ["model_folder", "run"]

FUSED = cost.ATTENTION_FORWARD + cost.ATTENTION_BACKWARD
UNFUSED = UNFUSED_FORWARD + UNFUSED_BACKWARD


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So that all that is done is done by the thread that counts."""

    def in_turn(function: Callable[[Any], Any], blocks: Sequence[Any]) -> list[Any]:
        return [function(block) for block in blocks]

    monkeypatch.setattr(mix, "_each_block", in_turn)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def said(job: Job, asked: Questions) -> dict[str, Stage]:
    return {stage.name: stage for stage in trace_stages(job, asked)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, Job]:
    """A finished run of 700 random features of two blocks of 1,024 coordinates."""
    build, job = made_up(tmp_path_factory.mktemp("runs") / "run", 700, 32)
    for todo in later_stages(build).values():
        for task in todo:
            build.marks.write(task.name, task.function(build, *task.numbers))
    finish(build)
    return Index(build.folder.path), job


def drawn(queries: int, job: Job) -> Tensor:
    return torch.randn(queries, job.features.dim, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("queries", [20, 90, 200])
def test_a_scan_does_and_holds_what_is_said(made: tuple[Index, Job], queries: int) -> None:
    index, job = made
    stages, features = said(job, Questions(queries)), drawn(queries, job)
    with Counted() as whitened:
        fresh = Index(index.folder.path)
        terms = QueryTerms(features, fresh.whitening)
        terms.vectors("train")
    with Counted() as scanned:
        search(index.shards(), QueryScan(terms, InnerProduct("train", unit_norm=True)), 10)
    assert whitened.operations == stages["query whitening"].operations
    assert scanned.operations == stages["scan"].operations
    assert stages["query whitening"].memory == pytest.approx(whitened.peak, rel=0.04)
    assert 0.95 * scanned.peak < stages["scan"].memory < 1.7 * scanned.peak, "at most"


@pytest.mark.parametrize("queries", [1, 20, 200])
def test_a_task_mix_does_and_holds_what_is_said(made: tuple[Index, Job], queries: int) -> None:
    index, job = made
    stages, features = said(job, Questions(queries, task=True)), drawn(queries, job)
    with Counted() as mixed:
        whitening = Index(index.folder.path).whitening
        automatic_mix(index.spectrum().flatten(), task_eigenvalues(features, index.blocks))
        subspace = TaskSubspace.of(features, whitening)
    with Counted() as scanned:
        terms = QueryTerms(features, whitening, subspace)
        inner = InnerProduct("mixed", True, TaskMix(subspace, 0.9))
        search(index.shards(), QueryScan(terms, inner), 10)
    eigenvectors = 6 * job.features.blocks * queries**3  # LAPACK's own, which torch does not see
    assert mixed.operations == stages["task mix"].operations - eigenvectors
    assert scanned.operations == stages["scan"].operations
    assert 0.95 * mixed.peak < stages["task mix"].memory < 1.4 * mixed.peak
    assert 0.95 * scanned.peak < stages["scan"].memory < 1.4 * scanned.peak


def test_a_task_that_spans_whole_blocks_costs_a_scan_twice(tmp_path: Path) -> None:
    build, job = made_up(tmp_path / "run", 600, 8)
    for todo in later_stages(build).values():
        for task in todo:
            task.run(build)
    finish(build)
    index, features = Index(build.folder.path), drawn(90, job)
    subspace = TaskSubspace.of(features, index.whitening)
    terms = QueryTerms(features, index.whitening, subspace)
    with Counted() as scanned:
        search(index.shards(), QueryScan(terms, InnerProduct("mixed", True, TaskMix(subspace, 0.9))), 10)
    assert scanned.operations == said(job, Questions(90, task=True))["scan"].operations


@pytest.mark.parametrize("task", [True, False])
def test_a_trace_reads_the_index_once_a_scan_and_once_for_checksums(
    run: SlowRun, monkeypatch: pytest.MonkeyPatch, task: bool
) -> None:
    monkeypatch.setattr(tracing, "SCAN_QUERIES", 2)
    monkeypatch.setattr(questions, "SCAN_QUERIES", 2)
    read, checked, factors, once = [], [], [], []
    whole, compare = opened.read_tensors, mirror.checksum

    def reading(path: Path) -> dict[str, Tensor]:
        found = whole(path)
        into = {"index": read, "whitening": factors}.get(path.parent.name, once)
        into.append(sum(tensor.nbytes for tensor in found.values()))
        return found

    def checking(path: Path) -> str:
        if path.parent.name == "index":
            checked.append(sum(tensor.nbytes for tensor in whole(path).values()))
        return compare(path)

    monkeypatch.setattr(opened, "read_tensors", reading)
    monkeypatch.setattr(mirror, "checksum", checking)
    tracer = Tracer(Index(run.index.folder.path), "cpu")
    tracer.trace(QUERIES, k=3, task=QUERIES if task else None, mix=0.5 if task else "auto")
    job = Job(*shapes(tracer.model, tracer.spec.dim, tracer.spec.layer_groups), len(run.index), 48)
    stages = said(job, Questions(len(QUERIES), k=3, task=task))
    assert stages["scan"].read == sum(read) + sum(checked)
    assert stages["query gradients"].read == 4 * job.model.parameters + 2 * sum(once)
    assert sum(read) == 2 * sum(checked), "two scans for three queries, two at a time"
    assert stages["task mix" if task else "query whitening"].read == 2 * sum(factors)


def test_constants_are_those_of_the_trace() -> None:
    assert questions.SCAN_QUERIES == tracing.SCAN_QUERIES
    assert questions.TOKEN_QUERIES == tokens.QUERIES


def test_operations_of_queries_are_those_that_torch_does() -> None:
    model = small_model("eager")
    job, plan, asked = job_of(model, 3, 21), plan_layers(model, DIM, GROUPS), Questions(3, 21, targets=4)
    extractor = FeatureExtractor(model, plan, fold_moments(plan, ones(model), 0), job.batch_tokens)
    with Counted() as counted:
        extractor(token_rows(3, 21), [17] * 3, "loss")
    more = 3 * (UNFUSED - FUSED) * 20**2 * job.model.attention
    assert counted.operations == said(job, asked)["query gradients"].operations + more


def test_operations_of_token_scores_are_those_that_torch_does(made: tuple[Index, Job]) -> None:
    model = small_model("eager")
    job, plan = job_of(model, 2, 33), plan_layers(model, DIM, GROUPS)
    extractor = FeatureExtractor(model, plan, fold_moments(plan, ones(model), 0), job.batch_tokens)
    asked = Questions(1, tokens=21, targets=4, k=1)  # a proponent and an opponent
    directions = [torch.randn(4, plan.dim, dtype=torch.float64) for _ in range(2)]
    with Counted() as counted:
        token_scores(extractor, token_rows(2, 33), [1, 1], directions, "loss")
    more = 2 * (UNFUSED - FUSED) * 32**2 * job.model.attention
    none = Questions(1, tokens=21, targets=4, k=0)
    stages = [said(job, of)["token scores"].operations for of in (asked, none)]
    assert counted.operations - more == stages[0] - stages[1]
    # what is left: every token of the target as a row, and its direction pulled back
    row = cost.gradient_operations(job.model, 21, 1) + cost.feature_operations(job.model, job.features, 21)
    pulled = job.features.dim * job.features.width + cost.whitening_operations(job.features)
    assert stages[1] == 4 * (row + pulled) + cost.inversion_operations(job.features)


@pytest.mark.parametrize(("rows", "tokens"), [(2, 33), (4, 65)])
def test_memory_of_passes_for_queries_and_for_tokens(rows: int, tokens: int) -> None:
    model = small_model("sdpa")
    job, plan = job_of(model, rows, tokens), plan_layers(model, DIM, GROUPS)
    extractor = FeatureExtractor(model, plan, fold_moments(plan, ones(model), 0), job.batch_tokens)
    directions = [torch.randn(4, plan.dim, dtype=torch.float64) for _ in range(rows)]
    with Counted() as scored:
        token_scores(extractor, token_rows(rows, tokens), [1] * rows, directions, "loss")
    with Counted() as asked:
        extractor(token_rows(rows, tokens), [tokens - 4] * rows, "loss")
    stages = said(job, Questions(rows, tokens, targets=4))
    sides = cost.side_bytes(job.model, job.features)  # made before
    given = 8 * rows * 4 * job.features.dim
    assert stages["token scores"].memory - sides - given == pytest.approx(scored.peak, rel=0.05)
    assert stages["query gradients"].memory - sides == pytest.approx(asked.peak, rel=0.1)


def test_directions_are_pulled_back_at_the_cost_of_a_solve(made: tuple[Index, Job]) -> None:
    index, job = made
    terms = QueryTerms(drawn(4, job), index.whitening)
    with Counted() as counted:
        terms.directions(InnerProduct("train", unit_norm=True))
    features = job.features
    pulled = features.dim * features.width + cost.whitening_operations(features)
    assert counted.operations == 4 * pulled + cost.inversion_operations(features)


def test_a_tail_patch_does_and_holds_what_is_said() -> None:
    model = small_model("eager")
    job, plan, asked = job_of(model, 3, 33), plan_layers(model, DIM, GROUPS), Questions(1, 21, targets=4, k=3)
    patcher = TailPatcher(model, plan.matrices, ones(model), PatchStep(), job.batch_tokens)
    (query,) = token_rows(1, 21, seed=1)
    pairs = [(EncodedQuery(query, 17), passage) for passage in range(3)]
    assert patcher.sizes
    with Counted() as counted:
        assert len(list(patcher.patched(token_rows(3, 33), pairs))) == 3
    passages = (UNFUSED - FUSED) * 32**2
    queries = (UNFUSED_FORWARD - cost.ATTENTION_FORWARD) * 20**2
    more = 3 * (passages + queries) * job.model.attention
    assert counted.operations == tail_patch_stage(job, asked).operations + more


def test_updates_of_a_tail_patch_are_what_it_holds() -> None:
    model = small_model("sdpa")
    job, plan = job_of(model, 3, 65), plan_layers(model, DIM, GROUPS)
    patcher = TailPatcher(model, plan.matrices, ones(model), PatchStep(), job.batch_tokens)
    (query,) = token_rows(1, 21, seed=1)
    assert patcher.sizes
    with Counted() as counted:
        list(patcher.patched(token_rows(3, 65), [(EncodedQuery(query, 17), n) for n in range(3)]))
    memory = tail_patch_stage(job, Questions(1, 21, targets=4, k=3)).memory
    assert 0.95 * counted.peak < memory < 1.4 * counted.peak
