"""Many clients at once: each gets the single client's answer, or a hint when to come again."""

from __future__ import annotations

import pytest
from benchmarks.soak import soak
from tests.viewer.live.conftest import TASK
from tests.viewer.live.driving import serving

from proponent.viewer import desk
from proponent.viewer.live import LiveRun

ASKED = [(query.prompt, query.target) for query in TASK]


def test_every_answer_is_the_single_clients(address: str) -> None:
    found = soak(address.rstrip("/"), ASKED, clients=8, seconds=2)
    assert len(found.seconds) > 8
    assert (found.wrong, found.failed) == (0, [])


def test_overload_is_answered_with_a_hint(live_run: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "WAITING", 1)
    with serving(run=live_run) as address:
        found = soak(address.rstrip("/"), ASKED, clients=8, seconds=3)
    assert found.later > 0
    assert (found.unhinted, found.wrong, found.failed) == (0, 0, [])
