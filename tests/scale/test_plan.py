"""Plans: seconds from speeds by hand, accelerators' figures, and a measurement of a tiny model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from tests.models import FAMILIES, make_model
from tests.scale.cases import NO_MODEL

import proponent as pp
from proponent.gradients.spec import FeatureSpec
from proponent.scale import cost, measuring
from proponent.scale.machines import ACCELERATORS, Assumed, Speeds, speeds_of, timed
from proponent.scale.plan import plan
from proponent.scale.shapes import FeatureShape, Job
from proponent.scale.stages import build_stages
from proponent.scale.units import lasting, short

JOB = Job(NO_MODEL, FeatureShape(2, 3), passages=2000, tokens=8, text=50)
RATES = dict.fromkeys(("second moments", "gradients", "R", "factors", "whitening", "encoding"), 1000.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("plan") / "model")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A model folder without weights."""
    FAMILIES["llama"]().save_pretrained(tmp_path / "config")
    return tmp_path / "config"


# --- seconds ----------------------------------------------------------------------------------------


def test_seconds_are_those_of_operations_files_and_tasks() -> None:
    found = {of.stage.name: of for of in timed(JOB, Speeds(RATES, disk=1e6, network=1.0, task=0.5))}
    for stage in build_stages(JOB):
        moved, of = stage.read + stage.written, found[stage.name]
        if stage.operations:
            assert of.compute == pytest.approx(stage.operations / 1e3)
            assert of.disk == pytest.approx(moved / 1e6 + 0.5 * stage.tasks)
        elif stage.name == "encoding":
            assert (of.compute, of.disk) == (pytest.approx(moved / 1e3), 0.5)
        else:
            assert (of.compute, of.disk) == (0, pytest.approx(moved / 1e6 + 0.5 * stage.tasks))
        assert of.network == 0, "one worker"
        assert of.seconds == of.compute + of.disk
    assert found["gradients"].limit == "compute"
    assert found["R, summed"].limit == "disk"


def test_workers_share_whole_tasks() -> None:
    job = replace(JOB, workers=3)
    assert (job.shards, job.groups) == (4, 2)
    speeds = Speeds(RATES, disk=math.inf, network=math.inf)
    one, three = ({of.stage.name: of for of in timed(of, speeds)} for of in (JOB, job))
    shares = {name: three[name].compute / one[name].compute for name in RATES}
    # four shards in two turns, two blocks, two groups; what comes first is one worker's
    assert shares == pytest.approx(
        {
            "second moments": 1,
            "encoding": 1,
            "gradients": 1 / 2,
            "R": 1 / 2,
            "factors": 1 / 2,
            "whitening": 1 / 2,
        }
    )
    assert three["whitening"].workers == 2
    slow = {of.stage.name: of for of in timed(job, Speeds(RATES, disk=math.inf, network=10.0))}
    stages = {stage.name: stage for stage in build_stages(job)}
    assert slow["gradients"].network == stages["gradients"].network / 10, "all from the first worker"
    assert slow["R, summed"].network == stages["R, summed"].network / 10 / 2


# --- accelerators -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tf32", [False, True])
def test_an_accelerator_has_two_speeds(tf32: bool) -> None:
    job, card = replace(JOB, batch_tokens=10**9), replace(ACCELERATORS["H100"], bandwidth=math.inf)
    assumed = Assumed(0.5, tf32=tf32, cores=3, core=7.0)
    exact = speeds_of(card, job, FeatureSpec("m"), assumed).rates
    rounded = speeds_of(card, job, FeatureSpec("m", dtype="bfloat16"), assumed).rates
    full = 0.5 * (495e12 if tf32 else 67e12)
    assert exact["gradients"] == pytest.approx(full)
    low = cost.rounded_operations(NO_MODEL, JOB.features, 8)
    row = cost.gradient_operations(NO_MODEL, 8) + cost.feature_operations(NO_MODEL, JOB.features, 8)
    assert row / rounded["gradients"] == pytest.approx(low / (0.5 * 989e12) + (row - low) / full)
    assert exact["second moments"] == rounded["second moments"] == pytest.approx(full), "always in float32"
    assert (exact["R"], exact["factors"]) == (21, 21 / 4)


def test_small_batches_wait_for_memory() -> None:
    job = replace(JOB, batch_tokens=8)
    speeds = speeds_of(ACCELERATORS["L4"], job, FeatureSpec("m"), Assumed(disk=1e30))
    operations = {stage.name: stage.operations for stage in build_stages(job)}["gradients"]
    # every passage is a batch and reads 100 parameters of four bytes twice
    assert operations / speeds.rates["gradients"] == pytest.approx(2000 * 2 * 400 / 0.3e12)
    assert {of.stage.name: of.limit for of in timed(job, speeds)}["gradients"] == "memory"


def test_a_configuration_is_enough_for_an_accelerator(config: Path) -> None:
    made = plan(FeatureSpec(str(config), 70, 2), 10_000, 40, "h100", workers=2, price=3.0)
    values = made.values
    assert (values["passages"], values["passage_tokens"], values["device"]) == (250, 40, "H100")
    assert values["disk"] == cost.disk_bytes(made.job)
    assert values["disk_while_built"] == cost.disk_bytes(made.job, finished=False)
    assert values["seconds"] == pytest.approx(sum(stage["seconds"] for stage in values["stages"]))
    assert values["money"] == pytest.approx(2 * 3.0 * values["seconds"] / 3600)
    assert values["operations"] == sum(stage.operations for stage in build_stages(made.job))
    assert "assumed at 40% of 989 TFLOP/s" in str(made)
    assert "nothing is measured" in str(made)
    with pytest.raises(pp.InputError, match=r"holds no weights to measure .* accelerator: H100"):
        plan(FeatureSpec(str(config), 70, 2), 10_000, 40, "cpu")


def test_a_card_that_is_too_small_is_named(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(FeatureSpec(str(config), 70, 2), 10_000, 40, "L4")
    assert made.lacking is None
    monkeypatch.setitem(ACCELERATORS, "L4", replace(ACCELERATORS["L4"], memory=1000))
    short_of = plan(FeatureSpec(str(config), 70, 2), 10_000, 40, "L4").lacking
    assert short_of is not None
    assert "a L4 has 1 kB; give one of H100, H200, A100" in short_of


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"utilisation": 1.5}, "give at most 1"), ({"disk": 0}, "disk is 0; give more than 0")],
)
def test_what_cannot_be_assumed(changes: dict[str, float], words: str) -> None:
    with pytest.raises(pp.InputError, match=words):
        Assumed(**changes)  # type: ignore[arg-type]


# --- a measurement ----------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["sample", "kronecker", "none"])
def test_a_measurement_of_a_tiny_model(
    moment: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(measuring, "FILE", 2**12)
    monkeypatch.setattr(measuring, "LONG_ENOUGH", 0.0)
    spec = FeatureSpec(str(model), 70, 2, moment, batch_tokens=256)
    made = plan(spec, 40_000, 40, "cpu")
    assert list(tmp_path.iterdir()) == [], "nothing is left"
    assert made.job.kronecker == (moment == "kronecker")
    assert made.job.sample == {"none": 0, "sample": 256, "kronecker": 1024}[moment]
    spent = {of.stage.name: of for of in made.stages}
    assert set(spent) == {stage.name for stage in build_stages(made.job)}
    for of in made.stages:
        assert 0 <= of.seconds < 600, of
        assert (of.compute > 0) == (of.stage.operations > 0 or of.stage.name == "encoding"), of
    assert "measured here, on cpu" in str(made)
    assert made.memory > made.weights
    assert made.values["device_memory"] is None


def test_numbers_are_short() -> None:
    assert [short(n, "B") for n in (0, 999, 1000, 41.04e12)] == ["0 B", "999 B", "1 kB", "41 TB"]
    assert [lasting(s) for s in (1e-9, 0.25, 90, 5400, 2 * 86400)] == [
        "0 s",
        "0.25 s",
        "1.5 min",
        "1.5 h",
        "2 days",
    ]
