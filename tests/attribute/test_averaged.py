"""Scores averaged over runs of the same passages, against each run's own scores of every passage."""

from __future__ import annotations

import re
import shutil
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch
from tests.models import make_model
from tests.runs import CHUNKS, CORPUS, QUERIES, small_spec
from torch import Tensor

import proponent as pp
from proponent.attribute.averaged import aligned
from proponent.attribute.held import HeldShards
from proponent.build import plan
from proponent.build.indexing import build_index
from proponent.errors import InputError

N = len(CHUNKS)


@pytest.fixture(scope="module")
def runs(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of three models, as of three checkpoints, with shards and dimensions of their own."""
    folder = tmp_path_factory.mktemp("averaged")
    models = [model_folder, *(make_model(folder / f"model-{seed}", seed=seed) for seed in (1, 2))]
    made = []
    with pytest.MonkeyPatch.context() as patch:
        for number, (model, rows, dim) in enumerate(zip(models, (512, 5, 3), (70, 150, 70), strict=True)):
            patch.setattr(plan, "SHARD_ROWS", rows)
            spec = small_spec(model, second_moment="kronecker", hessian="identity", damping="oas", dim=dim)
            build_index(CORPUS, spec, folder / f"run-{number}", "cpu")
            made.append(folder / f"run-{number}")
    return made


def every_score(hits: pp.Attribution) -> Tensor:
    """Scores [q, n] in the order of the rows."""
    by_id = [{p.id: p.score for p in hit.proponents} for hit in hits]
    return torch.tensor([[scores[id] for id in CHUNKS] for scores in by_id])


@pytest.mark.parametrize(
    ("method", "mixed"),
    [*product(("kronecker", "exact"), (False, True)), ("cosine", False), ("dot", False)],
)
def test_scores_are_the_means_of_each_runs_own(runs: list[Path], method: str, mixed: bool) -> None:
    task, mix = (QUERIES, 0.7) if mixed else (None, "auto")
    first, *others = runs
    alone = [every_score(pp.trace(run, QUERIES, method, N, task, mix, "cpu")) for run in runs]
    hits = pp.trace(first, QUERIES, method, N, task, mix, "cpu", averaged_with=others)
    torch.testing.assert_close(every_score(hits), torch.stack(alone).mean(0), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2), "models that differ"
    few = pp.trace(first, QUERIES, method, 3, task, mix, "cpu", averaged_with=others)
    for hit, whole in zip(few, hits, strict=True):
        assert [p.id for p in hit.proponents] == [p.id for p in whole.proponents[:3]]
        assert [p.id for p in hit.opponents] == [p.id for p in whole.opponents[:3]]
    assert hits.settings == {
        "method": method,
        "mix": 0.7 if mixed else None,
        "run": str(first),
        "averaged_with": [str(run) for run in others],
    }


def test_an_automatic_mix_is_the_first_runs_for_all(runs: list[Path]) -> None:
    how = {"task": QUERIES, "device": "cpu", "k": N}
    auto = pp.trace(runs[0], QUERIES, averaged_with=runs[1:], **how)
    given = pp.trace(runs[0], QUERIES, mix=auto.settings["mix"], averaged_with=runs[1:], **how)
    assert auto == given


def test_rows_that_are_cut_otherwise_meet() -> None:
    draw = torch.Generator().manual_seed(0)
    whole = torch.rand(3, 2, 50, generator=draw)
    for _ in range(20):
        streams = []
        for scores in whole:
            cuts = torch.randint(1, 50, (4,), generator=draw).unique().tolist()
            parts = torch.arange(50).tensor_split(cuts)
            streams.append(iter([(scores[:, part], part) for part in parts]))
        found = list(aligned(streams))
        assert torch.cat([positions for _, positions in found]).tolist() == list(range(50))
        assert torch.equal(torch.cat([torch.stack(scores) for scores, _ in found], 2), whole)


def test_a_result_file_says_which_runs_were_averaged(runs: list[Path], tmp_path: Path) -> None:
    hits = pp.trace(runs[0], QUERIES, k=2, device="cpu", averaged_with=runs[1:])
    hits.write(tmp_path / "hits.jsonl")
    read = pp.Attribution.read(tmp_path / "hits.jsonl")
    assert read.settings == hits.settings
    assert "kronecker, mean of 3 runs, no task mix" in str(hits)
    assert "averaged with" in str(pp.info(str(tmp_path / "hits.jsonl")))
    alone = pp.trace(runs[0], pp.Queries.read(tmp_path / "hits.jsonl"), k=2, device="cpu")
    alone.write(tmp_path / "alone.jsonl")
    assert "averaged_with" not in (tmp_path / "alone.jsonl").read_text()


def test_merged_duplicates_are_of_the_mean(runs: list[Path]) -> None:
    how = {"k": 2, "device": "cpu", "averaged_with": runs[1:]}
    plain, merged = (
        pp.trace(runs[0], QUERIES, **how),
        pp.trace(runs[0], QUERIES, merge_duplicates=True, **how),
    )
    assert [hit.proponents[0].score for hit in plain] == [hit.proponents[0].score for hit in merged]


@pytest.mark.parametrize(
    "more", [{"tokens": True}, {"diverse": True}, {"exact_top": 5}, {"ray": "local"}, {"certified": "sure"}]
)
def test_what_is_of_one_run_is_refused(runs: list[Path], more: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"leave (it )?out"):
        pp.trace(runs[0], QUERIES, k=2, device="cpu", averaged_with=runs[1:], **more)  # type: ignore[arg-type]


def test_runs_of_other_rows_are_refused(runs: list[Path], model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is averaged twice"):
        pp.trace(runs[0], QUERIES, device="cpu", k=2, averaged_with=[runs[1], runs[0]])
    with pytest.raises(InputError, match="no run"):
        pp.trace(runs[0], QUERIES, device="cpu", k=2, averaged_with=[tmp_path / "none"])
    spec = small_spec(model_folder, second_moment="kronecker", hessian="identity", damping="oas")
    fewer = pp.Corpus.of(list(CORPUS)[1:])
    build_index(fewer, spec, tmp_path / "fewer", "cpu")
    shorter = small_spec(model_folder, second_moment="kronecker", damping="oas", max_length=40)
    build_index(CORPUS, shorter, tmp_path / "shorter", "cpu")
    for name in ("fewer", "shorter"):
        with pytest.raises(InputError, match=f"{name}: its rows are not those of"):
            pp.trace(runs[0], QUERIES, device="cpu", k=2, averaged_with=[tmp_path / name])
    build_index(CORPUS, small_spec(model_folder), tmp_path / "paper", "cpu")
    margin = small_spec(model_folder, second_moment="kronecker", damping="oas", output="margin")
    build_index(CORPUS, margin, tmp_path / "margin", "cpu")
    for name in ("paper", "margin"):
        with pytest.raises(InputError, match=f"{name}: its features do not compare with those of"):
            pp.trace(runs[0], QUERIES, "cosine", device="cpu", k=2, averaged_with=[tmp_path / name])
    shutil.copytree(runs[0], tmp_path / "copy")
    with pytest.raises(InputError, match="copy: is averaged twice"):
        pp.trace(runs[0], QUERIES, device="cpu", k=2, averaged_with=[tmp_path / "copy"])
    damped = pp.Index(tmp_path / "paper", damping=2.0)
    with pytest.raises(InputError, match="another damping is of one run"):
        pp.trace(damped, QUERIES, device="cpu", k=2, averaged_with=runs[1:])


def test_other_runs_are_given_as_one_or_as_any_that_can_be_gone_through(runs: list[Path]) -> None:
    wanted = pp.trace(runs[0], QUERIES, device="cpu", k=2, averaged_with=runs[1:])
    assert pp.trace(runs[0], QUERIES, device="cpu", k=2, averaged_with=iter(runs[1:])) == wanted  # type: ignore[arg-type]
    one = pp.trace(runs[0], QUERIES, device="cpu", k=2, averaged_with=str(runs[1]))
    assert one == pp.trace(runs[0], QUERIES, device="cpu", k=2, averaged_with=[runs[1]])
    assert one != wanted
    for odd in (3, [3], [pp.Index(runs[1])]):
        with pytest.raises(InputError, match="give paths or URLs of runs"):
            pp.trace(runs[0], QUERIES, device="cpu", k=2, averaged_with=odd)  # type: ignore[arg-type]


def test_many_queries_are_searched_in_parts(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = pp.trace(runs[0], QUERIES, device="cpu", k=3, averaged_with=runs[1:])
    monkeypatch.setattr("proponent.attribute.tracing.SCAN_QUERIES", 2)
    assert [hit.query.id for hit in wanted] == ["q0", "q1", "q2"]
    found = pp.trace(runs[0], QUERIES, device="cpu", k=3, averaged_with=runs[1:])
    assert [[p.id for p in hit.proponents] for hit in found] == [[p.id for p in h.proponents] for h in wanted]
    assert found.settings == wanted.settings


@pytest.mark.parametrize("lost", ["all", "config.json", "model.safetensors"])
def test_a_missing_model_is_named_before_any_work(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    model, run = make_model(tmp_path / "model", seed=5), tmp_path / "run"
    spec = small_spec(model, second_moment="kronecker", hessian="identity", damping="oas")
    build_index(CORPUS, spec, run, "cpu")
    if lost == "all":
        shutil.rmtree(model)
    else:
        (model / lost).unlink()

    def worked(*_: object, **__: object) -> None:
        raise AssertionError("work is done before")

    tracer = pp.Tracer(runs[0], "cpu")
    monkeypatch.setattr(tracer, "extract", worked)
    monkeypatch.setattr("proponent.attribute.tracing.load_model", worked)
    for trace in (tracer.trace, partial(pp.trace, runs[0], device="cpu")):
        with pytest.raises(InputError, match=rf"^{re.escape(str(run))}: model .*'{re.escape(str(model))}'"):
            trace(QUERIES, k=2, averaged_with=[runs[1], run])


def test_every_run_is_read_from_its_files_wherever_the_first_is_held(runs: list[Path]) -> None:
    index = pp.Index(runs[0])
    held = pp.Tracer(index, "cpu", shards=HeldShards(index, torch.device("cpu")))
    wanted = pp.trace(runs[0], QUERIES, device="cpu", k=3, averaged_with=runs[1:])
    assert held.trace(QUERIES, k=3, averaged_with=runs[1:]) == wanted


@pytest.mark.parametrize("of_the_task", [False, True])
def test_a_query_that_is_too_long_is_named_before_any_work(
    runs: list[Path], of_the_task: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proponent.attribute.tracing.SCAN_QUERIES", 1)
    tracer, long = pp.Tracer(runs[0], "cpu"), [*QUERIES, pp.Query("long", "very " * 50, "long")]
    monkeypatch.setattr(tracer, "extract", None)
    asked, task = (QUERIES, long) if of_the_task else (long, QUERIES)
    with pytest.raises(InputError, match="its target would be cut off"):
        tracer.trace(asked, k=2, task=task, averaged_with=runs[1:])
