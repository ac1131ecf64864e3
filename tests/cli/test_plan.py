"""The verb `plan`: its table, its JSON, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.running import Command, Made
from tests.models import FAMILIES

STAGES = ["encoding", "second moments", "gradients", "R", "R, summed", "factors", "whitening"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    FAMILIES["llama"]().save_pretrained(tmp_path)
    return tmp_path


def test_a_plan_for_an_accelerator(proponent: Command, config: Path) -> None:
    words = ("plan", "--model", config, "--tokens", "10000", "--passage-tokens", "40", "--dim", "70")
    words = (*words, "--layer-groups", "2", "--device", "A100", "--workers", "2", "--price", "2.5")
    answer = proponent(*words)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert [line for line in lines if line.split("  ")[0] in STAGES], answer.out
    assert "at 2.5 an hour and worker" in answer.out
    told = json.loads(proponent(*words, "--json").out)
    assert [stage["name"] for stage in told["stages"]] == STAGES
    assert {stage["limit"] for stage in told["stages"]} <= {"compute", "disk", "memory", "network"}
    assert (told["workers"], told["device"], told["assumed"]["utilisation"]) == (2, "A100", 0.4)


def test_a_compact_run_with_r_train_is_planned_as_two_commands(proponent: Command, config: Path) -> None:
    words = ("plan", "--model", config, "--tokens", "10000", "--passage-tokens", "40", "--dim", "1024")
    words = (*words, "--layer-groups", "2", "--device", "A100", "--size", "64B")
    told = json.loads(proponent(*words, "--json").out)
    assert [stage["name"] for stage in told["stages"]] == [*STAGES, "compacting"]
    assert told["disk_of_full_run"] > told["disk"]
    assert "proponent compact" in proponent(*words).out
    assert "the full run and then proponent compact" in " ".join(proponent("plan", "--help").out.split())


def test_a_plan_for_this_machine(proponent: Command, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proponent.scale.measuring.LONG_ENOUGH", 0.0)
    words = ("plan", "--model", made.model, "--tokens", "1000", "--dim", "70", "--layer-groups", "2")
    answer = proponent(*words, "--device", "cpu", "--second-moment", "kronecker", "--json")
    told = json.loads(answer.out)
    assert told["passage_tokens"] == 64, "as many as the model reads"
    assert "folding" in [stage["name"] for stage in told["stages"]]
    assert told["seconds"] > 0


def test_what_cannot_be_planned(proponent: Command, config: Path) -> None:
    words = ("plan", "--model", config, "--tokens", "10")
    proponent(*words).assert_refused("holds no weights to measure with", "H100")
    proponent("plan", "--model", "no/where/to", "--tokens", "1").assert_refused("does not exist")
    proponent(*words, "--utilisation", "2", "--device", "L4").assert_refused("utilisation is 2.0")
    proponent("plan", "--model", config, "--tokens", "0").assert_refused("--tokens is 0; give 1 or more")
