"""The sample of scores that a scan takes along."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proponent.index import background
from proponent.index.background import Background
from proponent.index.search import keep_best


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_parts_do_not_matter_and_few_are_taken_whole(sizes: list[int], seed: int) -> None:
    scores = torch.randn(3, sum(sizes), generator=torch.Generator().manual_seed(seed))
    positions = torch.arange(sum(sizes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(background, "SAMPLE", 32)
        whole, parts = Background(3), Background(3)
        whole.add(scores, positions)
        for part, place in zip(scores.split(sizes, 1), positions.split(sizes), strict=True):
            parts.add(part, place)
        apart = [Background(3) for _ in sizes]
        for one, part, place in zip(apart, scores.split(sizes, 1), positions.split(sizes), strict=True):
            one.add(part, place)
        joined = Background.of_all(apart[::-1])
    assert torch.equal(whole.quantiles(), parts.quantiles())
    assert torch.equal(whole.quantiles(), joined.quantiles())
    if len(positions) <= 64:
        assert whole.quantiles().tolist() == [
            [sorted(row)[round(level * (len(row) - 1))] for level in background.QUANTILES]
            for row in scores.tolist()
        ]


def test_quantiles_of_a_large_corpus() -> None:
    """Even where scores depend on the position with a short period."""
    n = 300_000
    scores = torch.rand(2, n, generator=torch.Generator().manual_seed(1))
    scores[1] = torch.arange(n) % 64 / 63
    found = keep_best(
        ((part, 5000 * k + torch.arange(5000)) for k, part in enumerate(scores.split(5000, 1))), 2, 3
    )
    assert found.background.quantiles() == pytest.approx(torch.tensor([[0.02, 0.5, 0.98]] * 2), abs=0.03)


def test_no_scores_have_no_quantiles() -> None:
    assert Background(2).quantiles().isnan().all()
