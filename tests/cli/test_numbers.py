"""Numbers and choices are checked as the command is read, before any file or model is."""

from __future__ import annotations

import pytest
from tests.cli.running import Command

INDEX = "index corpus run --model m"
TRACE = "trace run --prompt a --target b"
BASELINE = "baseline bm25 corpus queries -o out"
VIEW = "view run"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"{INDEX} --dim 0", "--dim is 0; give 1 or more"),
        (f"{INDEX} --dim many", "--dim"),
        (f"{INDEX} --layer-groups -1", "--layer-groups is -1; give 1 or more"),
        (f"{INDEX} --max-length 1", "--max-length is 1; give 2 or more"),
        (f"{INDEX} --batch-tokens 0", "--batch-tokens is 0; give 1 or more"),
        (f"{INDEX} --limit 0", "--limit is 0; give 1 or more"),
        (f"{INDEX} --seed -1", "--seed is -1; give 0 to 4294967295"),
        (f"{INDEX} --seed 4294967296", "--seed is 4294967296"),
        (f"{INDEX} --dtype int8", "--dtype is 'int8'; choose one of float32, bfloat16"),
        (f"{INDEX} --text-as pages", "--text-as is 'pages'; choose one of lines, documents"),
        (f"{TRACE} -k 0", "-k is 0; give 1 or more"),
        (f"{TRACE} -k ten", "-k"),
        (f"{TRACE} --limit -3", "--limit is -3; give 1 or more"),
        (f"{TRACE} --mix 1", "the mix is '1'; give 'auto' or a number"),
        (f"{TRACE} --mix nan", "the mix is 'nan'"),
        (f"{TRACE} --mix 0.5", "a mix of 0.5 needs a task"),
        (f"{BASELINE} -k 0", "-k is 0; give 1 or more"),
        (f"{BASELINE} --limit 0", "--limit is 0"),
        (f"{BASELINE} --seed -1", "--seed is -1"),
        (
            "baseline tf-idf corpus queries -o out",
            "no baseline 'tf-idf'; choose one of bm25, embedding, random",
        ),
        ("tail-patch hits --limit 0", "--limit is 0; give 1 or more"),
        ("tail-patch hits --learning-rate 0", "--learning-rate is 0.0; give more than 0"),
        ("tail-patch hits --learning-rate nan", "--learning-rate is nan"),
        ("experiment table9 run --facts facts", "no experiment 'table9'; choose one of table1"),
        ("experiment table1", "give the run: proponent experiment table1 RUN"),
        ("experiment table1 run --facts facts --patch-queries 0", "--patch-queries is 0"),
        (f"{VIEW} --port 70000", "--port is 70000; give 0 to 65535"),
        (f"{VIEW} --port -1", "--port is -1"),
        (f"{VIEW} --time-limit 0", "--time-limit is 0.0; give more than 0"),
        (f"{VIEW} --time-limit inf", "--time-limit is inf"),
        ("pretrain corpus model --epochs 0", "--epochs is 0.0; give more than 0"),
        (
            "pretrain corpus model --size huge",
            "--size is 'huge'; choose one of nano, tiny, small, medium, base",
        ),
        ("demo --seed -1", "--seed is -1"),
        ("nothing", "No such command 'nothing'"),
        ("trace", "see proponent trace --help"),
        ("trace run --colour", "No such option: --colour"),
    ],
)
def test_what_is_out_of_range(
    command: str, words: str, proponent: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: object, **__: object) -> None:
        raise AssertionError("a file was looked for")

    for name in ("index.run.Index.__init__", "corpus.corpus.Corpus.read", "gradients.model.load_model"):
        monkeypatch.setattr(f"proponent.{name}", begun)
    answer = proponent(*command.split())
    answer.assert_refused(words)
    assert len(answer.err.splitlines()) == 1, "an error is one line"
