"""What long work tells of itself."""

from __future__ import annotations

import io
import sys

import pytest

from proponent import progress
from proponent.progress import LINE_EVERY, OnStderr, Silent, printable


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_tell_counts_rates_and_the_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with OnStderr().stage("gradients", 4000, "passages") as advance:
        clock.now += LINE_EVERY
        advance(1000, tokens=50_000)
        clock.now += LINE_EVERY
        advance(0, tokens=30_000)
        clock.now += LINE_EVERY
        advance(3000)
    assert capsys.readouterr().err.splitlines() == [
        "gradients: 1,000 of 4,000 passages, 100.0 passages/s, 5,000 tokens/s, 30 s left",
        "gradients: 1,000 of 4,000 passages, 50.0 passages/s, 4,000 tokens/s, 60 s left",
        "gradients: 4,000 of 4,000 passages, 133.3 passages/s, 2,667 tokens/s",
    ]


def test_lines_come_no_more_often_than_wanted_but_for_the_last(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with OnStderr().stage("whitening", 100, "rows") as advance:
        for _ in range(100):
            clock.now += LINE_EVERY / 40
            advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" of ")[0] for line in lines] == ["whitening: 40", "whitening: 80", "whitening: 100"]


def test_a_short_stage_tells_one_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with OnStderr().stage("R_train", None, "rows") as advance:
        clock.now += 0.5
        advance(3)
    assert capsys.readouterr().err == "R_train: 3 rows, 6.0 rows/s\n"


def test_nothing_is_divided_by_no_time_or_no_units(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with OnStderr().stage("gradients", 5, "passages") as advance:
        advance(0, tokens=0)
    assert capsys.readouterr().err == "gradients: 0 of 5 passages, 0.0 passages/s\n"


def test_a_bar_where_there_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with OnStderr().stage("gradients", 7, "passages") as advance:
        advance(3, tokens=20)
        advance(0, tokens=20)
        advance(4)
    shown = terminal.getvalue()
    assert "gradients" in shown
    assert "7/7" in shown
    assert "passages/s" in shown
    assert "tokens/s" in shown


def test_a_line_is_said_and_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    OnStderr().say("read\x1bing\n")
    Silent().say("nothing")
    with Silent().stage("nothing", 1, "rows") as advance:
        advance(1, tokens=2)
    assert capsys.readouterr() == ("", "read\ufffding \n")


def test_printable_keeps_text_and_makes_one_line() -> None:
    assert printable("ä 漢 😀 עברית \u200d") == "ä 漢 😀 עברית \u200d"
    assert printable("a\tb\nc\r\nd\u2028e\x85f") == "a b c  d e f"
    assert printable("\x1b[0m\x7f\u202e\ud83d") == "\ufffd[0m\ufffd\ufffd\ufffd"
