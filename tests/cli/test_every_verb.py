"""Every verb with input that is no good: one error line, exit code 2, and nothing written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.running import Command, Made, write_lines
from tests.facts import fact_record

# Words of a command by what is wrong with one of them, BAD; the others are sound.
VERBS = {
    "index": "index BAD out --model MODEL",
    "index's model": "index CORPUS out --model BAD",
    "index's moments": "index CORPUS out --model MODEL --max-length 48 --second-moment BAD",
    "compact's run": "compact BAD out",
    "trace's run": "trace BAD FACTS -k 1",
    "trace's queries": "trace RUN BAD -k 1",
    "trace's task": "trace RUN FACTS -k 1 --task BAD",
    "select's run": "select BAD FACTS --budget 1",
    "select's queries": "select RUN BAD --budget 1 -o out.jsonl",
    "select's task": "select RUN FACTS --budget 1 --task BAD -o out.jsonl",
    "evaluate's hits": "evaluate BAD --gold FACTS",
    "evaluate's facts": "evaluate HITS --gold BAD",
    "evaluate's sentences": "evaluate HITS --gold FACTS --sentences BAD",
    "baseline's corpus": "baseline random BAD FACTS -k 1 -o out.jsonl",
    "baseline's queries": "baseline random CORPUS BAD -k 1 -o out.jsonl",
    "tail-patch's hits": "tail-patch BAD",
    "tail-patch's run": "tail-patch HITS --run BAD",
    "experiment's run": "experiment lambda BAD --facts FACTS",
    "experiment's facts": "experiment lambda RUN --facts BAD",
    "report": "report BAD",
    "view": "view BAD --export out.html",
    "view's task": "view RUN --task BAD --port 0 --no-browser",
    "info": "info BAD",
    "check": "check BAD",
    "plan": "plan --model BAD --tokens 9",
    "pretrain": "pretrain BAD out",
}


def missing(path: Path) -> None:
    """Nothing is there."""


def empty(path: Path) -> None:
    path.write_bytes(b"")


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 9)


def folder(path: Path) -> None:
    path.mkdir()


def unreadable(path: Path) -> None:
    path.symlink_to("/proc/self/mem")  # whose first byte nobody may read


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def wrong_types(path: Path) -> None:
    write_lines(path, {"inputs_plaintext": 1, "targets_plaintext": [], "proponents": 3, "text": {}, "id": []})


@pytest.fixture
def words(made: Made, proponent: Command, tmp_path: Path) -> dict[str, str]:
    hits, facts = tmp_path / "hits.jsonl", tmp_path / "facts.jsonl"
    write_lines(facts, fact_record("f", ("France", "capital", "Paris"), ["paris"], "France's capital is"))
    assert proponent("trace", made.run, facts, "-k", "1", "-o", hits).code == 0
    (tmp_path / "work").mkdir()
    shutil.copytree(made.run, tmp_path / "run", ignore=shutil.ignore_patterns("experiments"))
    return {
        "MODEL": str(made.model),
        "CORPUS": str(made.corpus),
        "FACTS": str(facts),
        "RUN": str(tmp_path / "run"),
        "HITS": str(hits),
        "BAD": "bad.jsonl",
    }


@pytest.mark.parametrize(
    "spoil",
    [missing, empty, binary, folder, unreadable, dangling, wrong_types],
    ids=lambda spoil: spoil.__name__,
)
def test_one_error_line(
    spoil: Callable[[Path], None],
    words: dict[str, str],
    proponent: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if spoil is unreadable and not os.path.exists("/proc/self/mem"):
        pytest.skip("no /proc")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(
        "huggingface_hub.constants.HF_HUB_OFFLINE", True
    )  # or a missing model is asked for there
    spoil(Path("bad.jsonl"))
    for verb, command in VERBS.items():
        try:
            answer = proponent(*[words.get(word, word) for word in command.split()])
        except Exception as error:
            raise AssertionError(f"{verb}: {command}") from error
        answer.assert_refused()
        assert "bad.jsonl" in answer.err, verb
        assert [path.name for path in Path().iterdir() if path.name != "bad.jsonl"] == [], verb
        assert not (tmp_path / "run" / "experiments").exists(), verb
