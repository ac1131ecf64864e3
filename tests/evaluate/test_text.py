"""Tables of estimates in terminals of any width."""

from __future__ import annotations

import pytest

from proponent.evaluate.metrics import Estimate
from proponent.evaluate.text import estimate_table

METRICS = ("MRR", "Recall@10", "precision@10", "AUPRC", "Recall@50")
ROWS = [
    (name, {metric: Estimate(0.5 + 0.01 * n, 0.25, 1.0, 10 * n) for n, metric in enumerate(METRICS, 1)})
    for name in ("all", "capital", "language of work or name")
]


@pytest.mark.parametrize(("width", "tables"), [(80, 2), (60, 3), (200, 1)])
def test_metrics_that_do_not_fit_stand_below(
    monkeypatch: pytest.MonkeyPatch, width: int, tables: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    title, *lines = estimate_table("hits.jsonl", ROWS).splitlines()
    assert title == "hits.jsonl"
    assert max(map(len, lines)) <= width
    heads = [line.split() for line in lines if line.split()[:1] == ["n"]]
    assert len(heads) == tables
    assert [metric for head in heads for metric in head[1:]] == list(METRICS)
    for n in range(1, len(METRICS) + 1):
        assert "\n".join(lines).count(f".{50 + n}0 [.25, 1.00]") == len(ROWS)
