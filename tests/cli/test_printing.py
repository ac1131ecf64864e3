"""Nothing that is printed steers a terminal, and the help is what one would show."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from tests.cli.processes import python
from tests.cli.running import PASSAGES, Command, Made, write_lines
from tests.facts import fact_record

from proponent.cli.printing import show, show_json
from proponent.corpus.corpus import Corpus

EVIL = "\x1b[2J\x9b31m\x07\u202e\x7fname"
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
VERBS = (
    *("index", "compact", "trace", "select", "info", "check", "evaluate", "baseline", "tail-patch"),
    *("experiment", "report", "view", "plan", "pretrain", "demo"),
)


def test_what_a_terminal_would_obey_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    show(f"{EVIL}\r\nhalf \ud83d, \u2028line")
    assert capsys.readouterr().out == "\ufffd[2J\ufffd31m\ufffd\ufffd\ufffdname \nhalf \ufffd,  line\n"
    show("tab\tand\n\nlines, λ → é 漢字 \u200d joined")
    assert capsys.readouterr().out == "tab and\n\nlines, λ → é 漢字 \u200d joined\n"
    show_json({"a": [EVIL, "\ud83d\u2028"]})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"a": [EVIL, "\ud83d\u2028"]}
    assert not UNSAFE.search(printed)
    assert printed.splitlines()[1] == '  "a": ['


def test_names_prompts_and_errors_are_printed_safely(
    proponent: Command, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fact = {**fact_record(EVIL, ("France", "capital", "Paris"), ["paris"], "Its is"), "relation": EVIL}
    facts = write_lines(Path(f"{EVIL}.jsonl"), fact)
    hits = f"{EVIL}.hits.jsonl"
    answers = [
        proponent("baseline", "random", made.corpus, facts, "-k", "1", "-o", hits),
        proponent("evaluate", hits, "--gold", facts),
        proponent("evaluate", hits, "--gold", facts, "--json"),
        proponent("info", hits),
        proponent("info", hits, "--json"),
        proponent("trace", made.run, facts, "-k", "1", "--json"),
    ]
    for answer in answers:
        assert answer.code == 0, answer
        assert not UNSAFE.search(answer.out + answer.err), answer
    assert json.loads(answers[2].out)[0]["groups"].keys() == {EVIL}, "JSON keeps what it escapes"
    assert json.loads(answers[4].out)["results"] == hits
    broken = write_lines(Path(f"{EVIL}.broken\nname.jsonl"), {"prompt": EVIL, EVIL: 1})
    commands = [
        ("trace", made.run, broken),
        ("info", broken),
        ("check", EVIL),
        (EVIL,),
        ("info", f"--{EVIL}"),
    ]
    for words in commands:
        refused = proponent(*words)
        refused.assert_refused()
        assert not UNSAFE.search(refused.err)
        assert len(refused.err.splitlines()) == 1


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_fits_80_columns_and_says_no_type_of_python(
    verb: str, proponent: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    answer = proponent(*verb.split(), "--help")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"Usage: proponent {verb}".rstrip())
    assert not re.search(r"[<{}]|bool|\(text\)|\[\[|required|\.\.\.$", answer.out, re.MULTILINE), answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    if not verb:
        assert [line.split()[0] for line in answer.out.split("Commands:\n")[1].splitlines()] == list(VERBS)
        assert proponent().out == answer.out


def test_experiments_are_listed_with_a_line_on_each(proponent: Command) -> None:
    from proponent.evaluate.experiments.catalogue import EXPERIMENTS

    listed = proponent("experiment").out
    assert [line.split()[0] for line in listed.splitlines()[1:]] == list(EXPERIMENTS)
    assert all(experiment.about in listed for experiment in EXPERIMENTS.values())
    assert listed.splitlines()[1].strip() in proponent("experiment", "--help").out


def test_the_schema_of_gold_is_described(proponent: Command, made: Made, tmp_path: Path) -> None:
    (tmp_path / "facts.jsonl").write_text('{"fact_id": "a"}\n')
    hits = tmp_path / "hits.jsonl"
    assert proponent("baseline", "random", made.corpus, made.facts, "-k", "1", "-o", hits).code == 0
    refused = proponent("evaluate", hits, "--gold", tmp_path / "facts.jsonl")
    refused.assert_refused("facts.jsonl:1: no field 'entity0'", "trex_sentences, a list of the ids")
    words = " ".join(proponent("evaluate", "--help").out.split())
    assert "trex_sentences, a list of the ids of the passages that state the fact" in words


def test_the_version(proponent: Command) -> None:
    answer = proponent("--version")
    assert (answer.code, answer.out) == (0, "proponent 0.1.0\n")


def test_text_as_reads_lines_or_documents(
    proponent: Command, made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[dict[str, object]] = []

    def read(*_: object, **named: object) -> Corpus:
        given.append(named)
        return Corpus.of(PASSAGES.values())

    monkeypatch.setattr(Corpus, "read", read)
    words = ("baseline", "random", made.corpus, made.facts, "-k", "1", "-o", tmp_path / "hits.jsonl")
    assert proponent(*words).code == proponent(*words, "--text-as", "documents").code == 0
    assert [named["text_as"] for named in given] == ["lines", "documents"]


def test_help_and_version_are_quick_to_import() -> None:
    listing = (
        "import sys; from proponent.cli import main\n"
        "try: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    done = python("-c", listing, "experiment")
    assert not {"torch", "transformers", "pyarrow", "numpy", "rich"} & set(done.stderr.split())


def test_an_interrupted_command_says_that_it_goes_on(made: Made, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from proponent.cli import main\nimport proponent.build.indexing as building\n"
        "building.build_index = lambda *_: os.kill(os.getpid(), signal.SIGINT)\nmain()"
    )
    words = ["index", str(made.corpus), str(tmp_path / "run"), "--model", str(made.model)]
    done = python("-c", code, *words)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == "interrupted; what is done is kept, and the same command goes on\n"
