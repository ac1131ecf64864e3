"""Whether an index fits, with made-up free memory and with a real limit of a process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from tests.cli.processes import python
from tests.models import make_model

from proponent.errors import InputError
from proponent.gradients.spec import FeatureSpec
from proponent.scale import room
from proponent.scale.plan import job_of
from proponent.scale.room import require_room
from proponent.scale.shapes import shapes_of_config

GB = 10**9


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("room") / "model")


@pytest.fixture
def spec(model: Path) -> FeatureSpec:
    return FeatureSpec(str(model), dim=96, layer_groups=2, max_length=48, batch_tokens=2**20)


def freely(monkeypatch: pytest.MonkeyPatch, free: int | None) -> None:
    found = {} if free is None else {"cpu": free, "meta": free}
    monkeypatch.setattr(room, "free_memory", lambda where: found)


def refusal(spec: FeatureSpec, workers: int = 1) -> str:
    with pytest.raises(InputError) as caught:
        require_room(spec, "cpu", workers=workers)
    return str(caught.value)


def gigabytes(line: str) -> list[float]:
    return [float(found.replace(",", "")) for found in re.findall(r"([\d.,]+) GB", line)]


def test_what_does_not_fit_is_refused_with_both_numbers_and_a_batch_that_fits(
    spec: FeatureSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    freely(monkeypatch, GB // 2)
    line = refusal(spec)
    needed, weights, beside, free = gigabytes(line)
    assert needed == pytest.approx(weights + beside, abs=0.011)
    assert needed > free == 0.5
    assert "\n" not in line
    (fewer,) = map(int, re.findall(r"give --batch-tokens (\d+)$", line))
    require_room(FeatureSpec(**{**spec.to_dict(), "batch_tokens": fewer}), "cpu")
    with pytest.raises(InputError):
        require_room(FeatureSpec(**{**spec.to_dict(), "batch_tokens": 2 * fewer}), "cpu")


def test_workers_share_the_memory_of_a_processor(spec: FeatureSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    freely(monkeypatch, GB // 2)
    needed = gigabytes(refusal(spec))[0]
    freely(monkeypatch, int(needed * 1.5 * GB))
    require_room(spec, "cpu")
    assert "free for each of 2 workers" in refusal(spec, workers=2)


def test_without_a_batch_that_fits_other_remedies_are_named(
    model: Path, spec: FeatureSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = FeatureSpec(**{**spec.to_dict(), "dim": 2**24, "batch_tokens": 64})
    freely(monkeypatch, 20 * 2**20)
    assert refusal(small).endswith(
        "save the model in bfloat16, as which it can be held, or give a smaller --dim, or take a device with "
        "more memory"
    )


def test_where_there_is_plenty_or_nothing_is_known_nothing_is_counted(
    spec: FeatureSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "shapes_of_config", lambda *_: pytest.fail("the model was traced"))
    small = FeatureSpec(**{**spec.to_dict(), "batch_tokens": 2048})
    for free in (64 * GB, None):
        freely(monkeypatch, free)
        require_room(small, "cpu")


def test_the_quick_bound_is_above_what_is_counted(model: Path, spec: FeatureSpec) -> None:
    config = room.load_config(str(model))
    for tokens in (64, 2048, 2**20):
        asked = FeatureSpec(**{**spec.to_dict(), "batch_tokens": tokens})
        job = job_of(shapes_of_config(config, asked.dim, asked.layer_groups), asked, 2**20, 48)
        card = (torch.device("cuda"),)
        assert room._bound(config, asked) >= room._beside(job, card)


@pytest.mark.slow
def test_a_limit_of_the_process_is_a_limit(model: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("one\ntwo three\n")
    words = ["index", str(tmp_path / "corpus.txt"), str(tmp_path / "run"), "--model", str(model)]
    words += ["--dim", "96", "--batch-tokens", "4000000", "--device", "cpu"]
    code = (
        "import sys, resource, torch, transformers, pyarrow.parquet\n"
        "from proponent.memory import STATM\n"
        "used = int(STATM.read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 10**9, -1))\n"
        f"sys.argv = ['proponent', *{words!r}]; from proponent.cli import main; main()"
    )
    done = python("-c", code)
    assert done.returncode == 2, done.stderr
    assert "does not fit: an index with it needs about" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
