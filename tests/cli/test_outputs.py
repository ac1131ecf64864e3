"""An output destroys nothing: no input, no run, no file of another kind; and nothing is half-written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.cli.running import Command, Made, write_lines

from proponent.cli.options import EFFECTS, PAGE, RESULTS, require_output
from proponent.errors import InputError
from proponent.evaluate.experiments.effects import Effects
from proponent.files import locked

RESULT = {"example_id": "q", "inputs_plaintext": "The", "targets_plaintext": "cat", "proponents": ["a"]}
RESULT |= {"proponent_ids": ["paris"], "proponent_scores": [0.5]}


@pytest.fixture
def work(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with inputs of every kind, and nothing that could begin the work."""

    def begun(*_: object, **__: object) -> None:
        raise AssertionError("the work was begun")

    for name in ("attribute.tracing.load_model", "corpus.corpus.Corpus.read", "index.run.Index.__init__"):
        monkeypatch.setattr(f"proponent.{name}", begun)
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "corpus.jsonl", {"id": "a", "text": "one"})
    write_lines(tmp_path / "queries.jsonl", {"prompt": "a", "target": "b"})
    write_lines(tmp_path / "hits.jsonl", RESULT)
    (tmp_path / "run").symlink_to(made.run)
    return tmp_path


COMMANDS = {
    "trace": "trace run queries.jsonl --task corpus.jsonl -o",
    "baseline": "baseline bm25 corpus.jsonl queries.jsonl -o",
    "baseline of a glob": "baseline bm25 *.jsonl queries.jsonl -o",
    "tail-patch": "tail-patch hits.jsonl -o",
    "view": "view hits.jsonl --export",
}
INPUTS = {
    "trace": ["queries.jsonl", "corpus.jsonl"],
    "baseline": ["corpus.jsonl", "queries.jsonl"],
    "baseline of a glob": ["corpus.jsonl", "hits.jsonl"],
    "tail-patch": ["hits.jsonl"],
    "view": ["hits.jsonl"],
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_an_output_that_is_an_input(verb: str, proponent: Command, work: Path) -> None:
    for name in INPUTS[verb]:
        before = (work / name).read_bytes()
        (work / "link").symlink_to(name)
        os.link(work / name, work / "hard")
        for output in (name, work / name, f"./run/../../{work.name}/{name}", "link", "hard"):
            proponent(*COMMANDS[verb].split(), output).assert_refused("give the name of")
        assert (work / name).read_bytes() == before
        assert (work / "link").is_symlink()
        (work / "link").unlink()
        (work / "hard").unlink()


@pytest.mark.parametrize("verb", COMMANDS)
def test_an_output_in_a_run(verb: str, proponent: Command, work: Path, made: Made) -> None:
    before = {path: path.read_bytes() for path in made.run.rglob("*") if path.is_file()}
    for output in ("run/run.json", "run/new.jsonl", made.run / "new" / "x.html", "run/index/0.jsonl"):
        proponent(*COMMANDS[verb].split(), output).assert_refused("lies in the run")
    assert {path: path.read_bytes() for path in made.run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("verb", COMMANDS)
@pytest.mark.parametrize("content", ["dear diary\n", "no line end", '{"id": "a", "text": "one"}\n', "[1]\n"])
def test_an_output_of_another_kind(verb: str, content: str, proponent: Command, work: Path) -> None:
    (work / "letter").write_text(content)
    proponent(*COMMANDS[verb].split(), "letter").assert_refused("letter: is there already", "remove it first")
    assert (work / "letter").read_text() == content


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (RESULTS, json.dumps(RESULT) + "\n"),
        (EFFECTS, '{"query": "q", "passage": "p", "points": 0.5}\n'),
        (PAGE, "<!doctype html>\n<html><head><title>proponent</title>"),
    ],
)
def test_an_output_of_the_same_kind_is_written_again(kind: str, content: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text(content)
    require_output(tmp_path / "out", kind, [])
    for other in {RESULTS, EFFECTS, PAGE} - {kind}:
        with pytest.raises(InputError, match="remove it first"):
            require_output(tmp_path / "out", other, [])
    (tmp_path / "out").write_text("")
    require_output(tmp_path / "out", kind, [])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("dear diary", "out:1: not the effects"),
        ("dear diary\n", "out:1: not the effects"),
        ('{"query": "q", "passage": "p", "points": 1, "made_with": "b"}\n', "measured with another step"),
        ('{"query": "q", "passage": "p", "points": 1, "made_with": "a"}\nx', "out:2: not the effects"),
        ('{"query": [], "passage": "p", "points": 1}\n', "out:1: not the effects"),
        ('{"query": "q", "passage": "p", "points": "many"}\n', "out:1: not the effects"),
    ],
)
def test_effects_are_not_appended_to_something_else(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text(content)
    with pytest.raises(InputError, match=words):
        Effects.open(tmp_path / "out", "a")
    assert (tmp_path / "out").read_text() == content


def test_effects_have_one_writer(tmp_path: Path) -> None:
    effects = Effects.open(tmp_path / "out")
    with locked(tmp_path / ".out.lock", ""), pytest.raises(InputError, match="another process is writing"):
        effects.measure(None, [], 8, None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
