"""Submodular selection: the axioms, every stated bound against all sets, lazy greedy against plain."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.references.selection import (
    Value,
    best_set,
    log_det_value,
    plain_greedy,
    sets_of,
    sets_within,
    support_value,
)
from torch import Tensor

from proponent.attribute.selection import (
    LogDeterminant,
    SetFunction,
    Support,
    Terms,
    choose,
    choose_by_samples,
)

E1 = 1 - 1 / math.e
Made = tuple[Callable[[], SetFunction], Value, int]
KINDS = ["decay 0", "decay 1/2", "decay 1", "log-det"]


def random_scores(seed: int, queries: int = 4, n: int = 9) -> Tensor:
    """Scores of which a third are negative, and two passages with the same."""
    scores = torch.randn(queries, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.4
    scores[:, 1] = scores[:, 0]
    return scores


def make(kind: str, seed: int, n: int = 9) -> Made:
    """A set function, fresh at each call, and its value by definition."""
    if kind == "log-det":
        rows = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        rows[1] = rows[0]
        kernel = rows @ rows.T
        return lambda: LogDeterminant(kernel), log_det_value(kernel), n
    decay = {"decay 0": 0.0, "decay 1/2": 0.5, "decay 1": 1.0}[kind]
    scores = random_scores(seed, n=n)
    return lambda: Support(scores, decay), support_value(scores, decay), n


def grown(function: SetFunction, members: list[int]) -> SetFunction:
    for member in members:
        function.add(member)
    return function


@pytest.mark.parametrize("kind", KINDS)
@given(
    seed=st.integers(0, 10**6),
    order=st.permutations(range(9)),
    small=st.integers(0, 8),
    more=st.integers(0, 8),
)
def test_values_gains_and_the_axioms(kind: str, seed: int, order: list[int], small: int, more: int) -> None:
    fresh, value, n = make(kind, seed)
    large = min(n - 1, small + more)
    inside = grown(fresh(), order[:small])
    around = grown(fresh(), order[:large])
    assert inside.value == pytest.approx(value(order[:small]), abs=1e-9)
    few, many = inside.all_gains(), around.all_gains()
    for m in order[large:]:
        assert float(few[m]) == pytest.approx(value([*order[:small], m]) - value(order[:small]), abs=1e-9)
        assert few[m] >= many[m] - 1e-9, "a passage adds no more to a larger set"
        assert many[m] >= 0, "and never takes away"
    assert many[order[:large]].abs().sum() == 0, "a passage that is there adds nothing"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_greedy_against_every_set(kind: str, seed: int) -> None:
    fresh, value, n = make(kind, seed)
    for budget in (1, 3, 5):
        found = choose(fresh(), Terms(budget))
        best = best_set(value, sets_of(n, budget))
        assert found.value == pytest.approx(value(found.passages))
        assert found.value >= E1 * best - 1e-9
        assert found.limit >= best - 1e-9, "no set is better than the limit"
        assert found.share * best <= found.value + 1e-9
        if kind == "decay 1":
            assert found.value == pytest.approx(best), "a sum of scores has its best set at the top"


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10**6), budget=st.integers(1, 9))
def test_lazy_greedy_is_plain_greedy(kind: str, seed: int, budget: int) -> None:
    fresh, value, n = make(kind, seed)
    found, expected = choose(fresh(), Terms(budget)), plain_greedy(value, n, budget)
    # rounding decides between equal gains, so the gains are compared
    steps = [value(expected[: k + 1]) - value(expected[:k]) for k in range(len(expected))]
    assert list(found.gains)[: len(steps)] == pytest.approx(steps, abs=1e-9)
    assert sum(found.gains[len(steps) :]) < 1e-9


def test_lazy_greedy_takes_the_first_of_equals() -> None:
    found = choose(Support(torch.ones(2, 5)), Terms(3))
    assert found.passages == (0,), "the others add nothing"
    found = choose(Support(torch.ones(2, 5), decay=1.0), Terms(3))
    assert found.passages == (0, 1, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_half_of_the_best_with_groups(kind: str, seed: int) -> None:
    fresh, value, n = make(kind, seed, 8)
    groups = [f"source {m // 3}" for m in range(n)]
    for budget, each in ((3, 1), (5, 2), (8, 1)):
        found = choose(fresh(), Terms(budget, groups, each))
        names = [groups[m] for m in found.passages]
        assert max(map(names.count, names)) <= each
        best = best_set(value, sets_within(groups, each, budget))
        assert best / 2 - 1e-9 <= found.value <= best + 1e-9
        assert found.limit >= best - 1e-9


def test_groups_can_cost_half() -> None:
    # the first choice, a hair better, takes the one place of its group from a passage that nothing replaces
    scores = torch.tensor([[1.01, 0.0, 1.0], [0.0, 1.0, 0.0]])
    found = choose(Support(scores), Terms(2, ["a", "a", "b"], 1))
    assert found.passages == (0,)
    best = best_set(support_value(scores, 0.0), sets_within(["a", "a", "b"], 1, 2))
    assert 0.5 < found.value / best < E1


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_of_samples_holds_in_expectation(kind: str) -> None:
    fresh, value, n = make(kind, 5, 12)
    budget, epsilon = 4, 0.2
    best = best_set(value, sets_of(n, budget))
    values = torch.tensor(
        [choose_by_samples(fresh(), Terms(budget), epsilon, seed).value for seed in range(200)]
    )
    error = float(values.std()) / len(values) ** 0.5
    assert float(values.mean()) >= (E1 - epsilon) * best - 3 * error
    assert len({round(v, 9) for v in values.tolist()}) > 1, "the samples matter"
    with pytest.raises(ValueError, match="groups"):
        choose_by_samples(fresh(), Terms(2, ["a"] * n, 1), 0.1)


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(10))
def test_what_choosing_among_candidates_costs(decay: float, seed: int) -> None:
    """Candidates are each query's best c; the rest is bounded by the c-th best score."""
    scores, budget = random_scores(seed, 3, 12), 3
    for c in (1, 2, 4):
        ranked = scores.topk(c, dim=1)
        kept = ranked.indices.flatten().unique()
        least = ranked.values[:, -1].clamp(min=0)
        function = Support(scores[:, kept], decay)
        outside = lambda f=function, t=least: float(f.gains_of(t[:, None]))  # noqa: E731
        found = choose(function, Terms(budget, beyond=12 - len(kept), outside=outside))
        value = support_value(scores, decay)
        best = best_set(value, sets_of(12, budget))
        assert found.limit >= best - 1e-9, "the limit holds for all passages, not only for candidates"
        assert found.lost is not None
        assert found.value >= E1 * best - found.lost - 1e-9
        groups = [f"source {m % 4}" for m in kept.tolist()]
        within = choose(Support(scores[:, kept], decay), Terms(budget, groups, 1, 12 - len(kept), outside))
        best_within = best_set(value, sets_within([f"source {m % 4}" for m in range(12)], 1, budget))
        assert within.lost is not None
        assert within.value >= best_within / 2 - within.lost - 1e-9
        if found.lost == 0:
            steps = plain_greedy(value, 12, budget)
            assert found.value == pytest.approx(value(steps)), "as if chosen from all"


def test_what_candidates_lack_is_said() -> None:
    scores = torch.tensor([[5.0, 4.0, 3.0, 2.0]])
    function = Support(scores[:, :1], decay=1.0)
    most = lambda: float(function.gains_of(torch.tensor([[5.0]])))  # noqa: E731
    found = choose(function, Terms(2, beyond=3, outside=most))
    assert found.passages == (0,)
    assert found.limit == pytest.approx(10)
    assert found.share == pytest.approx(0.5)
    assert found.lost == pytest.approx(5), "the second passage is outside"
    three = Support(scores[:, :1], decay=1.0)
    found = choose(three, Terms(3, beyond=2, outside=most))
    assert found.limit == pytest.approx(15), "two of three may be outside"
    assert found.lost == pytest.approx(2 / 3 * 2 * 5)
    found = choose(Support(scores, decay=1.0), Terms(2))
    assert found.lost == 0
    assert found.share == 1


def test_log_det_of_candidates_is_bounded_for_all() -> None:
    rows = torch.randn(8, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rows[4:] *= 0.7
    kernel, kept = rows @ rows.T, [0, 1, 5, 6]
    most = math.log1p(float(kernel.diagonal()[[2, 3, 4, 7]].max()))
    found = choose(LogDeterminant(kernel[kept][:, kept]), Terms(3, beyond=4, outside=lambda: most))
    best = best_set(log_det_value(kernel), sets_of(8, 3))
    assert found.limit >= best - 1e-9
    assert found.lost is not None
    assert found.value >= E1 * best - found.lost - 1e-9
    alone = choose(LogDeterminant(kernel[kept][:, kept]), Terms(3))
    assert alone.limit < best, "the passages outside matter"


def test_what_is_outside_is_compared_with_the_set_so_far() -> None:
    """Once the first passage is in, one outside adds half as much as before."""
    function = Support(torch.tensor([[4.0, 1.0]]), decay=0.5)
    outside = lambda: float(function.gains_of(torch.tensor([[3.0]])))  # noqa: E731
    found = choose(function, Terms(2, beyond=9, outside=outside))
    assert found.gains == pytest.approx((4.0, 0.5))
    assert found.lost == pytest.approx(max(0, 3 - 4) + (1.5 - 0.5))


def test_limits_respect_the_groups() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0]])
    found = choose(Support(scores, decay=1.0), Terms(2, ["a", "a", "b"], 1))
    assert found.limit == pytest.approx(4), "only one of the first two"
    assert found.share == 1


def test_samples_need_their_size_and_their_best() -> None:
    """Four good passages among 24: a sample of 6 ln 20 = 18 finds nearly all of them."""
    scores = torch.full((1, 24), 1e-3, dtype=torch.float64)
    scores[0, [3, 9, 14, 20]] = 1.0
    epsilon, budget, formed = 0.05, 4, []

    class Counted(Support):
        def gains(self, passages: Tensor) -> Tensor:
            formed.append(len(passages))
            return super().gains(passages)

    values = [
        choose_by_samples(Counted(scores, decay=1.0), Terms(budget), epsilon, seed).value
        for seed in range(100)
    ]
    error = float(torch.tensor(values).std()) / 10
    assert sum(values) / 100 >= (E1 - epsilon) * 4 - 3 * error
    assert sum(values) / 100 > 3
    size = math.ceil(24 / budget * math.log(1 / epsilon))
    assert max(n for n in formed if n < 24) == size


def test_samples_drop_what_is_worthless() -> None:
    scores = torch.zeros(1, 4000)
    scores[0, 17] = 1.0
    found = choose_by_samples(Support(scores), Terms(1000), 0.1)
    assert found.passages == (17,)
    assert found.lost is None, "the guarantee is against the best of those to choose from"


def test_small_gains_are_not_lost_beside_large_ones() -> None:
    scores = torch.tensor([[1e6, 1e-9, 1e-9, 1e-9]], dtype=torch.float64)
    found = choose(Support(scores, decay=0.5), Terms(4))
    assert all(gain > 0 for gain in found.gains)


def test_copies_add_nothing_to_the_best_support_and_log_two_at_most_to_log_det() -> None:
    kernel = 100 * torch.ones(3, 3, dtype=torch.float64)
    found = choose(LogDeterminant(kernel), Terms(3))
    assert found.gains[0] == pytest.approx(math.log(101))
    assert 0 < found.gains[1] < math.log(2)
    assert len(choose(Support(torch.tensor([[3.0, 3.0, 3.0]])), Terms(3)).passages) == 1


def test_supports_far_down_the_list_still_count() -> None:
    scores = torch.ones(1, 100, dtype=torch.float64)
    found = choose(Support(scores, decay=0.9), Terms(100))
    assert found.value == pytest.approx(sum(0.9**j for j in range(100)))
