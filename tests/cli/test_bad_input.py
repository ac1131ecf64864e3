"""One line for every kind of bad input, exit code 2, and nothing written."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.cli.running import Command, Made, index_arguments
from tests.models import byte_tokenizer, make_model

# --- bad input of `index` ---------------------------------------------------------------------------

GOOD = b'{"id": "a", "text": "one"}\n'


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.jsonl", None, ["c.jsonl: no such file or folder"]),
        ("*.jsonl", None, ["no file matches"]),
        ("c.doc", b"text", ["c.doc: unknown file type; known are .jsonl"]),
        ("c.jsonl", GOOD + b"{'id': 1}\n", ["c.jsonl:2: not JSON", "one object a line"]),
        ("c.jsonl", GOOD + b"\n" + b'{"id": "b", "text": "tw', ["c.jsonl:3: not JSON"]),
        ("c.jsonl", GOOD + b"[1, 2]\n", ["c.jsonl:2: not a JSON object but a list"]),
        ("c.jsonl", GOOD + b'{"id": "b", "body": "x"}\n', ["c.jsonl:2: no field 'text'", "--text-field"]),
        ("c.jsonl", GOOD + b'{"text": "x"}\n', ["c.jsonl:2: no field 'id'", "--id-field"]),
        ("c.jsonl", GOOD + b'{"id": "b", "text": 7}\n', ["c.jsonl:2: the field 'text' must be a string"]),
        ("c.jsonl", GOOD + '{"id": "b", "text": "é"}\n'.encode("latin-1"), ["c.jsonl:2: not UTF-8"]),
        ("c.txt", "fine\nnot café\n".encode("utf-16"), ["c.txt:1: not UTF-8", "save the file as UTF-8"]),
        (
            "c.jsonl",
            GOOD * 2,
            ["c.jsonl:2: the id 'a' was already given at", "c.jsonl:1; ids must be unique"],
        ),
        ("c.jsonl", b"", ["c.jsonl: the corpus is empty"]),
        ("c.txt", b"\n \n\t\n", ["c.txt: all 3 passages are empty", "--text-field"]),
        (
            "c.jsonl.gz",
            gzip.compress(GOOD * 99, mtime=0)[:-9],
            ["c.jsonl.gz: cannot be read", "is the file whole?"],
        ),
        ("c.txt.gz", b"no gzip at all", ["c.txt.gz: cannot be read"]),
        ("c.parquet", b"PAR1 and no more", ["c.parquet: not a readable Parquet file"]),
    ],
)
def test_bad_corpora(
    name: str, content: bytes | None, words: list[str], proponent: Command, made: Made, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    answer = proponent(*index_arguments(made, tmp_path / "run", tmp_path / name))
    answer.assert_refused(*words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dim", "3"], ["dim 3 is smaller than the number of blocks, 4; raise --dim"]),
        (["--dim", "0"], ["--dim is 0; give 1 or more"]),
        (["--layer-groups", "0"], ["--layer-groups is 0; give 1 or more"]),
        (["--second-moment", "sampled"], ["'none' nor a file", "optimizer.pt"]),
        (
            ["--output-function", "entropy"],
            ["--output-function is 'entropy'; choose one of loss"],
        ),
        (["--max-length", "65"], ["the model reads at most 64 tokens; use --max-length 64"]),
        (["--max-length", "3"], ["a max-length of 3 tokens is too short; it must be at least 4"]),
        (["--max-length", "1"], ["--max-length is 1; give 2 or more"]),
        (["--batch-tokens", "-5"], ["--batch-tokens is -5; give 1 or more"]),
        (["--damping", "0"], ["damping is '0.0'; give a positive number or one of oas, ledoit-wolf"]),
        (["--damping", "nan"], ["damping is 'nan'"]),
        (
            ["--damping", "0.1", "--second-moment", "kronecker"],
            ["--damping is of R_train, which this run takes for the identity; leave it out"],
        ),
        (
            ["--damping", "best"],
            ["damping is 'best'; give a positive number or one of oas, ledoit-wolf"],
        ),
        (["--dtype", "int8"], ["--dtype is 'int8'; choose one of float32, bfloat16"]),
        (["--device", "nowhere"], ["device 'nowhere' cannot be used here"]),
        (["--limit", "0"], ["--limit is 0; give 1 or more"]),
        (["--text-field", "body"], ["corpus.jsonl:1: no field 'body', the fields are: id, text"]),
        (["--id-field", "key"], ["corpus.jsonl:1: no field 'key'"]),
    ],
)
def test_bad_settings(
    arguments: list[str], words: list[str], proponent: Command, made: Made, tmp_path: Path
) -> None:
    answer = proponent(*index_arguments(made, tmp_path / "run", None, *arguments))
    answer.assert_refused(*words)
    assert not (tmp_path / "run").exists()


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def half_the_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))


def more_layers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, ["model folder", "does not exist; give a Hugging Face model folder or hub id"]),
        (no_weights, ["model", "cannot be loaded"]),
        (no_tokenizer, ["has no tokenizer that can be loaded"]),
        (half_the_weights, ["model", "cannot be loaded"]),
        (no_config, ["model", "cannot be loaded"]),
        (other_shape, ["has shape", "config.json"]),
        (more_layers, ["lacks weights for", "complete model.safetensors"]),
    ],
)
def test_bad_models(
    spoil: Callable[[Path], None], words: list[str], proponent: Command, made: Made, tmp_path: Path
) -> None:
    shutil.copytree(made.model, tmp_path / "model")
    spoil(tmp_path / "model")
    spoilt = Made(tmp_path / "model", made.corpus, made.facts, tmp_path / "run")
    proponent(*index_arguments(spoilt, spoilt.run)).assert_refused(*words)
    assert not spoilt.run.exists()


def test_an_optimizer_checkpoint_of_another_model(proponent: Command, made: Made, tmp_path: Path) -> None:
    parameters = [torch.nn.Parameter(torch.ones(3, 2))]
    torch.save(torch.optim.AdamW(parameters).state_dict(), tmp_path / "optimizer.pt")
    arguments = ["--second-moment", str(tmp_path / "optimizer.pt")]
    answer = proponent(*index_arguments(made, tmp_path / "run", None, *arguments))
    answer.assert_refused("optimizer.pt", "this model's own training run")
    assert not (tmp_path / "run").exists()


def test_a_corpus_and_a_run_are_needed(proponent: Command, made: Made) -> None:
    proponent("index", made.corpus, "--model", made.model).assert_refused("the folder of the run")


def test_a_run_with_other_settings(proponent: Command, made: Made) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.run.rglob("*")}
    answer = proponent(*index_arguments(made, made.run, None, "--damping", "3"))
    answer.assert_refused(f"{made.run}: this run was made with other settings: spec.damping was oas, now 3.0")
    assert {path: path.stat().st_mtime_ns for path in made.run.rglob("*")} == before


def test_a_run_folder_of_other_things(proponent: Command, made: Made, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    proponent(*index_arguments(made, tmp_path)).assert_refused("exists and is not a run")
    proponent(*index_arguments(made, tmp_path / "letter.txt")).assert_refused("exists and is not a run")
    proponent(*index_arguments(made, tmp_path / "letter.txt" / "run")).assert_refused("letter.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_full_disk_while_indexing(
    proponent: Command, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        proponent(*index_arguments(made, tmp_path / "run")).assert_refused(
            "run.json: no space left on the disk"
        )
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert proponent(*index_arguments(made, tmp_path / "run")).code == 0


# --- bad input of `trace` ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["q.jsonl: no such file or folder"]),
        ("", ["q.jsonl: there are no queries in it"]),
        ('{"prompt": "a", "target": "b"}\nnonsense\n', ["q.jsonl:2: not JSON"]),
        ('{"prompt": "a", "answer": "b"}\n', ["q.jsonl:1: no prompt and target", "prompt/target"]),
        (
            '{"prompt": "a", "target": ["b"]}\n',
            ["q.jsonl:1: the field 'target' must be a string, not a list"],
        ),
        ('{"prompt": " ", "target": "b"}\n', ["q.jsonl:1: the prompt is empty"]),
        ('{"prompt": "a", "target": ""}\n', ["q.jsonl:1: the target is empty"]),
        ('{"prompt": "a", "target": "b", "id": 1}\n' * 2, ["q.jsonl:2: the id '1' was already given at"]),
        (
            json.dumps({"prompt": "x" * 40, "target": "y" * 9}),
            ["q.jsonl:1: its target would be cut off: the query is 51 tokens long and max-length is 48"],
        ),
    ],
)
@pytest.mark.parametrize("role", ["queries", "task"])
def test_bad_queries(
    role: str, content: str | None, words: list[str], proponent: Command, made: Made, tmp_path: Path
) -> None:
    path = tmp_path / "q.jsonl"
    if content is not None:
        path.write_text(content)
    asked = [path] if role == "queries" else [made.facts, "--task", path]
    answer = proponent("trace", made.run, *asked, "-k", "1", "-o", tmp_path / "hits.jsonl")
    answer.assert_refused(*words)
    assert not (tmp_path / "hits.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", "a"], ["give QUERIES, or --prompt and --target"]),
        (["--target", "a"], ["give QUERIES, or --prompt and --target"]),
        ([], ["give QUERIES, or --prompt and --target"]),
        (["--prompt", "", "--target", "b"], ["the prompt is empty"]),
        (["--prompt", "a", "--target", " \t"], ["the target is empty"]),
        (["FACTS", "--prompt", "a", "--target", "b"], ["either QUERIES or --prompt and --target, not both"]),
        (["FACTS", "--method", "best"], ["no method 'best'; known methods: trackstar, cosine, dot, trak"]),
        (["FACTS", "--method", "dot,hessian=all"], ["hessian is 'all'; choose one of none, train, mixed"]),
        (
            ["FACTS", "--method", "trak"],
            ["does not fit a run with rank-one second moments", "--second-moment none"],
        ),
        (["FACTS", "-k", "0"], ["-k is 0; give 1 or more"]),
        (["FACTS", "-k", "6"], ["k is 6; this run holds 5 passages"]),
        (["FACTS", "--limit", "0"], ["--limit is 0; give 1 or more"]),
        (["FACTS", "--task", "FACTS", "--mix", "1"], ["the mix is '1'", "not including, 1"]),
        (["FACTS", "--task", "FACTS", "--mix", "much"], ["the mix is 'much'; give 'auto' or a number"]),
        (["FACTS", "--mix", "0.5"], ["a mix of 0.5 needs a task"]),
        (["FACTS", "--task", "FACTS", "--method", "cosine"], ["method 'cosine' has no task mix"]),
        (["FACTS", "--device", "nowhere"], ["device 'nowhere' cannot be used here"]),
    ],
)
def test_bad_requests(
    arguments: list[str], words: list[str], proponent: Command, made: Made, tmp_path: Path
) -> None:
    arguments = [str(made.facts) if word == "FACTS" else word for word in arguments]
    few = [] if "-k" in arguments else ["-k", "1"]
    answer = proponent("trace", made.run, *arguments, *few, "-o", tmp_path / "hits.jsonl")
    answer.assert_refused(*words)
    assert list(tmp_path.iterdir()) == []


def gone(run: Path) -> None:
    shutil.rmtree(run)


def no_run(run: Path) -> None:
    (run / "run.json").unlink()


def unfinished(run: Path) -> None:
    (run / "done.json").unlink()


def flipped(name: str) -> Callable[[Path], None]:
    def flip(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[len(content) // 2] ^= 16
        (run / name).write_bytes(content)

    return flip


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (gone, ["not a run (no run.json); make one with: proponent index CORPUS"]),
        (no_run, ["not a run (no run.json)"]),
        (unfinished, ["this run is unfinished; run the same 'proponent index' again to go on"]),
        (
            flipped("index/00000.safetensors"),
            ["index/00000.safetensors: damaged", "make it again with: proponent check RUN --repair"],
        ),
        (flipped("examples/00000.parquet"), ["examples/00000.parquet: damaged"]),
        (flipped("run.json"), ["run.json: damaged"]),
        (flipped("done.json"), ["done.json: damaged"]),
        (flipped("moments.safetensors"), ["moments.safetensors: damaged"]),
        (flipped("whitening/00.safetensors"), ["whitening/00.safetensors: damaged"]),
        (lambda run: (run / "index" / "00000.safetensors").unlink(), ["00000.safetensors: missing"]),
    ],
)
def test_bad_runs(
    spoil: Callable[[Path], None], words: list[str], proponent: Command, made: Made, tmp_path: Path
) -> None:
    shutil.copytree(made.run, tmp_path / "run")
    spoil(tmp_path / "run")
    answer = proponent("trace", tmp_path / "run", made.facts, "-k", "1", "-o", tmp_path / "hits.jsonl")
    answer.assert_refused(*words)
    assert not (tmp_path / "hits.jsonl").exists()
    checked = proponent("check", tmp_path / "run")
    assert checked.code == 2
    assert len([line for line in checked.err.splitlines() if line.startswith("error:")]) == 1
    assert words[0].split(":")[0] in checked.out + checked.err


def test_a_run_of_another_model_or_tokenizer(proponent: Command, made: Made, tmp_path: Path) -> None:
    model = shutil.copytree(made.model, tmp_path / "model")
    copy = Made(model, made.corpus, made.facts, tmp_path / "run")
    assert proponent(*index_arguments(copy, copy.run)).code == 0
    trace = ("trace", copy.run, copy.facts, "-k", "1", "-o", tmp_path / "hits.jsonl")
    byte_tokenizer(with_bos=False).save_pretrained(model)
    proponent(*trace).assert_refused("the tokenizer in", "is not the one that this run was made with")
    make_model(model, seed=1)
    proponent(*trace).assert_refused("the model in", "is not the one that this run was made with")
    shutil.rmtree(model)
    proponent(*trace).assert_refused("does not exist")
    assert not (tmp_path / "hits.jsonl").exists()


def test_an_output_that_cannot_be_written(
    proponent: Command, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    proponent("trace", made.run, made.facts, "-k", "1", "-o", tmp_path / "folder").assert_refused("folder")
    earlier = '{"example_id": "q", "proponents": []}\n'
    (tmp_path / "hits.jsonl").write_text(earlier)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    answer = proponent("trace", made.run, made.facts, "-k", "1", "-o", tmp_path / "hits.jsonl")
    answer.assert_refused("hits.jsonl: no space left on the disk")
    assert (tmp_path / "hits.jsonl").read_text() == earlier
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "hits.jsonl"]


@pytest.mark.parametrize("verb", ["trace", "baseline", "tail-patch"])
def test_an_output_is_checked_before_the_work(
    verb: str, proponent: Command, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = tmp_path / "hits.jsonl"
    assert proponent("trace", made.run, made.facts, "-k", "1", "-o", hits).code == 0
    (tmp_path / "folder").mkdir()
    arguments = {
        "trace": (made.run, made.facts, "-k", "1"),
        "baseline": ("bm25", made.corpus, made.facts, "-k", "1"),
        "tail-patch": (hits, "--limit", "1"),
    }[verb]

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the work was begun")

    monkeypatch.setattr("proponent.attribute.tracing.load_model", asked)
    monkeypatch.setattr("proponent.corpus.corpus.Corpus.read", asked)
    for output, words in (
        (tmp_path / "folder", "folder: is a folder; give the name of a file"),
        (hits / "below.jsonl", "below.jsonl: cannot be written in"),
        (Path("/proc/none.jsonl"), "/proc/none.jsonl: cannot be written in /proc: "),
    ):
        answer = proponent(verb, *arguments, "--output", output)
        answer.assert_refused(words)
        assert len(answer.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "hits.jsonl"]


# --- bad input of `info` ----------------------------------------------------------------------------


def test_info_of_what_is_neither_run_nor_result(proponent: Command, made: Made, tmp_path: Path) -> None:
    proponent("info", tmp_path).assert_refused("not a run (no run.json)")
    proponent("info", tmp_path / "nothing").assert_refused("nothing: no such run or result file")
    proponent("info", made.facts).assert_refused("not a result of a trace (no field 'proponents')")
    (tmp_path / "broken.jsonl").write_text("{")
    proponent("info", tmp_path / "broken.jsonl").assert_refused("broken.jsonl:1: not JSON")
