"""Batches side by side against the same batches one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from tests.features import extractor, sampled_moments
from tests.models import FAMILIES

from proponent.gradients import lanes
from proponent.gradients.lanes import BatchSchedule, batch_schedules, run_lanes
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import SecondMoments

CPU = torch.device("cpu")
LENGTHS = [3, 7, 22, 5, 9, 4, 12, 30, 8, 6, 10, 11]
ROWS = [[(7 * n + 3 * t) % 250 for t in range(length)] for n, length in enumerate(LENGTHS)]


@pytest.fixture(params=[2, 3])
def several(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """So many threads for torch, and lanes of as few tokens as the tests' rows have."""
    before = torch.get_num_threads()
    monkeypatch.setattr(lanes, "LANE_TOKENS", 12)
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("family", "several"), [*((family, 2) for family in FAMILIES), ("llama", 3)], indirect=["several"]
)
def test_lanes_change_nothing(
    family: str, several: int, shared_model: Callable[[str], LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shared_model(family)
    plan = plan_layers(model, 96, 2)
    assert [part.lanes for part in batch_schedules(model, LENGTHS, 48)] == [1, several]

    def found() -> tuple[dict[str, SecondMoments], torch.Tensor]:
        moments = sampled_moments(model, plan, ROWS, batch_tokens=48)
        return moments, extractor(model, plan, moments, 0, batch_tokens=48)(ROWS, [1] * 12, "loss")

    (first, features), (again, same) = found(), found()
    assert torch.equal(features, same)
    monkeypatch.setattr(lanes, "LANE_TOKENS", 1000)
    expected, plain = found()
    for name, value in expected.items():
        torch.testing.assert_close(first[name].rows, value.rows, rtol=1e-4, atol=0)
        torch.testing.assert_close(first[name].columns, value.columns, rtol=1e-4, atol=0)
        assert torch.equal(first[name].rows, again[name].rows)
    scale = plain.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(features / scale, plain / scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("budget", [12, 24, 36, 48, 100, 150])
def test_every_row_is_in_one_batch_and_no_more_than_the_budget_runs_at_once(
    budget: int, several: int, shared_model: Callable[[str], LanguageModel]
) -> None:
    found = batch_schedules(shared_model("llama"), LENGTHS, budget)
    assert sorted(n for part in found for group in part.batches for n in group) == list(range(12))
    for part in found:
        sizes = [len(group) * max(LENGTHS[n] for n in group) for group in part.batches]
        for group, size in zip(part.batches, sizes, strict=True):
            assert size <= budget // part.lanes or len(group) == part.lanes == 1
        assert sizes == sorted(sizes, reverse=True), "the fullest comes first"
    assert max(part.lanes for part in found) == min(several, budget // 12)


@pytest.mark.parametrize(
    ("lengths", "device"),
    [([10, 9, 8], CPU), (LENGTHS, torch.device("meta")), ([40], CPU)],
    ids=["one batch", "another device", "one row"],
)
def test_one_lane_where_several_would_not_help(
    lengths: list[int], device: torch.device, several: int, shared_model: Callable[[str], LanguageModel]
) -> None:
    model = replace(shared_model("llama"), device=device)
    assert [part.lanes for part in batch_schedules(model, lengths, 36)] == [1]


def test_no_rows_make_no_batch(shared_model: Callable[[str], LanguageModel]) -> None:
    assert batch_schedules(shared_model("llama"), [], 48) == []


def test_results_come_in_the_order_of_the_batches_each_from_a_replica(
    several: int, shared_model: Callable[[str], LanguageModel]
) -> None:
    model = shared_model("llama")
    seen: set[int] = set()

    def work(replica: LanguageModel, members: list[int]) -> int:
        time.sleep(0.02 if members[0] % 2 else 0.001)
        assert torch.get_num_threads() == 1
        seen.add(id(replica.causal))
        pairs = zip(replica.causal.parameters(), model.causal.parameters(), strict=True)
        assert all(mine is given for mine, given in pairs)
        return members[0]

    groups = [[n] for n in range(20)]
    assert list(run_lanes(model, BatchSchedule(several, groups), work)) == list(range(20))
    assert len(seen) == several
    assert id(model.causal) not in seen
    assert torch.get_num_threads() == several


def test_a_lane_that_fails_stops_the_others(
    several: int, shared_model: Callable[[str], LanguageModel]
) -> None:
    begun: list[int] = []

    def work(_: LanguageModel, members: list[int]) -> int:
        begun.append(members[0])
        if members[0] == 3:
            raise MemoryError("no more")
        return members[0]

    schedule = BatchSchedule(several, [[n] for n in range(100)])
    with closing(run_lanes(shared_model("llama"), schedule, work)) as found:
        assert [next(found) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(MemoryError, match="no more"):
            next(found)
    assert len(begun) < 20
    assert torch.get_num_threads() == several


def test_who_stops_reading_waits_for_what_runs_and_no_more(
    several: int, shared_model: Callable[[str], LanguageModel]
) -> None:
    begun: list[int] = []
    schedule = BatchSchedule(several, [[n] for n in range(100)])
    with closing(
        run_lanes(shared_model("llama"), schedule, lambda _, members: begun.append(members[0]))
    ) as found:
        next(found)
    count = len(begun)
    assert count < 20
    time.sleep(0.05)
    assert len(begun) == count
