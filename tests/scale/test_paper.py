"""The paper's own job, worked out by hand, and what the page on theory says of it."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt
from pathlib import Path

import pytest
from transformers import LlamaConfig

from proponent.gradients.spec import SAMPLES, FeatureSpec
from proponent.scale import cost
from proponent.scale.bounds import bounds
from proponent.scale.exact import exact_stage
from proponent.scale.machines import ACCELERATORS, Assumed, speeds_of, timed
from proponent.scale.memory import logit_bytes
from proponent.scale.plan import Plan
from proponent.scale.questions import Questions, tail_patch_stage, trace_stages
from proponent.scale.sets import diverse_stage, select_stage
from proponent.scale.shapes import Job, shapes_of_config
from proponent.scale.stages import build_stages, compact_stage

DOCS = Path(__file__).parents[2] / "docs"
THEORY, CLUSTER = ((DOCS / name).read_text("utf-8") for name in ("theory.md", "cluster.md"))


@pytest.fixture(scope="module")
def job() -> Job:
    """160 billion tokens in passages of 512, a model of Llama-3-8B's shape, d = 2^16."""
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    )
    return Job(*shapes_of_config(config, 2**16, 8), 160 * 10**9 // 512, 512, workers=128)


def test_the_job_by_hand(job: Job) -> None:
    weights = 32 * (4096 * 6144 + 4096 * 4096 + 4096 * 28_672 + 14_336 * 4096)
    sides = 32 * (4096 + 6144 + 4096 + 4096 + 4096 + 28_672 + 14_336 + 4096)
    gradient = 2 * 511 * (2 * weights - 4096 * 6144) + 7 * 511**2 * 32 * 4096 + 4 * 511 * 4096 * 128_256
    features = 2 * 511 * (64 * sides + 4096 * 128)
    stages = {stage.name: stage for stage in build_stages(job)}
    assert stages["gradients"].operations == 312_500_000 * (gradient + features)
    assert stages["R"].operations == 312_500_000 * 65_536 * (4096 + 512)
    # 65 rows of logits at a time are less than 32 MB
    assert logit_bytes(job) == 3 * 4 * 65 * 128_256
    # 128 passages a shard, two shards together: every 256 passages read all factors
    assert job.groups == 1_220_704
    triangle = 16 * 4 * 4096 * 4097 // 2
    assert stages["whitening"].read == pytest.approx(
        312_500_000 * 4 * 65_536 + 1_220_704 * triangle, rel=1e-3
    )
    assert cost.disk_bytes(job) == pytest.approx(312_500_000 * 2 * 65_536, rel=1e-3)


def test_the_page_says_how_far_the_code_is_from_its_bounds(job: Job) -> None:
    table = THEORY.partition("| at the job below |")[2].partition("\n\n")[0].splitlines()[2:]
    said = [float(row.split("|")[-2]) for row in table]
    assert said == pytest.approx([bound.distance for bound in bounds(job)], rel=5e-3)


@pytest.mark.parametrize("tf32", [False, True])
def test_the_page_on_large_jobs_says_what_a_plan_does(job: Job, tf32: bool) -> None:
    assumed, spec, whole = Assumed(tf32=tf32), FeatureSpec("8B", dtype="bfloat16"), replace(job, text=4 * 512)
    made = timed(whole, speeds_of(ACCELERATORS["H100"], whole, spec, assumed))
    table = CLUSTER.partition("| stage | workers |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    assert [row[:3] for row in rows] == [[of.stage.name, str(of.workers), of.limit] for of in made]
    hours = [of.seconds / 3600 for of in made]
    assert [float(row[3 + tf32]) for row in rows] == pytest.approx(hours, rel=5e-3, abs=5e-4)
    cards = 128 * hours[2]
    assert f"{cards:,.0f}" in CLUSTER
    plan = Plan(spec, whole, made, assumed, "H100", ACCELERATORS["H100"])
    assert (round(plan.device_memory / 1e9), round(plan.memory / 1e9)) == (70, 33)


@pytest.mark.parametrize(
    ("dim", "size", "row"),
    [(2**16, 0, 1), (2**16, 4096, 2), (2**16, 4096, 3), (2**18, 0, 4), (2**18, 4096, 5)],
)
def test_the_page_on_large_jobs_says_what_compact_runs_take(job: Job, dim: int, size: int, row: int) -> None:
    white = row > 2
    features = replace(job.features, side=isqrt(dim // 16), identity=white, size=size)
    whole = replace(job, features=features, kronecker=white, text=4 * 512)
    whole = replace(whole, sample=SAMPLES["kronecker"], surveyed=SAMPLES["kronecker"]) if white else whole
    table = CLUSTER.partition("| d; bytes a passage |")[2].partition("\n\n")[0].splitlines()[1 + row]
    said = [float(cell.partition(" TB")[0]) for cell in table.split("|")[3:6]]
    scanned = whole.passages * cost.index_bytes(features)
    figures = [cost.disk_bytes(whole), cost.disk_bytes(whole, finished=False), scanned]
    assert said == pytest.approx([figure / 1e12 for figure in figures], rel=5e-3)
    spec, card, cells = FeatureSpec("8B", dtype="bfloat16"), ACCELERATORS["H100"], table.split("|")
    made = [timed(whole, speeds_of(card, whole, spec, Assumed(tf32=tf32))) for tf32 in (False, True)]
    hours = [f"{sum(of.seconds for of in stages) / 3600:.0f}" for stages in made]
    assert cells[6].split("; ") == [f" {hours[0]}", f"{hours[1]} "]
    # text is not read of the table's builds
    read = sum(stage.read for stage in build_stages(replace(whole, text=0)))
    assert float(cells[7].removesuffix(" TB ")) == pytest.approx(read / 1e12, rel=2e-2)


def test_the_page_names_every_function_that_spends(job: Job) -> None:
    every = (
        *build_stages(job),
        *build_stages(replace(job, kronecker=True)),
        *build_stages(replace(job, features=replace(job.features, identity=True, size=4096))),
        compact_stage(job),
        *trace_stages(job, Questions(1)),
        *trace_stages(job, Questions(1, task=True)),
    )
    sets = (diverse_stage(job, Questions(1)), select_stage(job, Questions(1), 10))
    for stage in (*every, *sets, tail_patch_stage(job, Questions(1)), exact_stage(job, Questions(1), 10)):
        assert f"`{stage.spends.removeprefix('proponent.')}`" in THEORY, stage.name
