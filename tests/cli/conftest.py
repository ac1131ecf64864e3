"""The command as a fixture, and one finished run for all tests of the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.cli.running import FACTS, PASSAGES, Answer, Command, Made, index_arguments, write_lines
from tests.models import make_model

from proponent.cli import main


@pytest.fixture
def proponent(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process, as `proponent ARGUMENTS`."""

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["proponent", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Answer(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    paths = Made(
        make_model(folder / "model"),
        write_lines(folder / "corpus.jsonl", *({"id": id, "text": text} for id, text in PASSAGES.items())),
        write_lines(folder / "facts.jsonl", *FACTS),
        folder / "run",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["proponent", *index_arguments(paths, paths.run)])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 0
    return paths
