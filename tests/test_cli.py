"""The command line: the main job from end to end, and one line for every kind of bad input."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from proponent.cli import main
from proponent.gradients.model import load_model
from tests.models import byte_tokenizer, make_model

SOURCE = Path(__file__).parents[1] / "src"
SMALL = ("--dim", "70", "--layer-groups", "2", "--max-length", "48", "--device", "cpu")
PASSAGES = {
    "paris": "The capital of France is Paris.",
    "rome": "Rome is the capital of Italy.",
    "blank": " ",
    "gold": "Gold has the symbol Au.",
    "long": "A passage that is longer than the forty-eight tokens of one chunk.",
}
FACTS = [
    {"fact_id": "f0", "prompt0": "France's capital is", "entity1": "Paris", "trex_sentences": ["paris"]},
    {"fact_id": "f1", "prompt0": "The symbol of gold is", "entity1": "Au", "trex_sentences": ["gold"]},
]


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    def assert_refused(self, *words: str) -> None:
        """Exit code 2 and one error line, the last; progress before it is no error; nothing on stdout."""
        lines = self.err.splitlines()
        assert self.code == 2, self
        assert self.out == ""
        assert [line for line in lines if line.startswith("error:")] == lines[-1:], self.err
        assert "Traceback" not in self.err
        assert not [word for word in words if word not in lines[-1]], lines[-1]


Command = Callable[..., Answer]


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


def write_lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Made:
    """A model, a corpus, facts and a finished run of them."""

    model: Path
    corpus: Path
    facts: Path
    run: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny matrices, and the machine may be busy
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
    yield paths
    torch.set_num_threads(threads)


def index_arguments(made: Made, run: Path, corpus: Path | None = None, *more: str) -> list[str]:
    return ["index", str(corpus or made.corpus), str(run), "--model", str(made.model), *SMALL, *more]


# --- the main job -----------------------------------------------------------------------------------


def test_index_then_info_then_trace(proponent: Command, made: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    answer = proponent(*index_arguments(made, run))
    assert answer.code == 0
    assert answer.out.startswith(f"{run}: 5 rows, 154 tokens, 1 skipped, ")
    assert "passages/s" in answer.err
    assert "tokens/s" in answer.err
    assert "\r" not in answer.err, "no bars where stderr is no terminal"

    answer = proponent("info", run, "--json")
    assert (answer.code, answer.err) == (0, "")
    facts = json.loads(answer.out)
    assert facts["spec"]["model"] == str(made.model)
    assert (facts["passages"], facts["rows"], facts["tokens"]) == (5, 5, 154)
    assert facts["skipped"] == {"empty": 1, "too_short": 0, "not_finite": []}
    assert (facts["dim"], facts["blocks"], facts["side"]) == (64, 4, 4)
    assert facts["bytes"] == sum(p.stat().st_size for p in run.rglob("*") if p.is_file())
    assert list(facts["layers"]) == ["attention 0-0", "mlp 0-0", "attention 1-2", "mlp 1-2"]
    spectrum = facts["eigenvalues"]
    assert spectrum["crossing_rank"] == 1
    assert spectrum["largest"] == spectrum["at_crossing"]
    assert spectrum["largest"] >= spectrum["median"] >= spectrum["smallest"] > 0
    assert facts["fingerprints"].keys() == {"model", "tokenizer", "corpus"}

    answer = proponent(
        "trace", run, "--prompt", "Rome is the", "--target", "capital of Italy.", "-k", "2", "--json"
    )
    assert answer.code == 0
    (line,) = answer.out.splitlines()
    record = json.loads(line)
    assert record["inputs_plaintext"] == "Rome is the"
    assert record["targets_plaintext"] == "capital of Italy."
    assert record["proponents"][0] == PASSAGES["rome"]
    assert record["proponent_ids"][0] == "rome"
    assert len(record["proponent_scores"]) == len(record["opponent_scores"]) == 2
    assert 1 >= record["proponent_scores"][0] >= record["proponent_scores"][1]
    assert -1 <= record["opponent_scores"][0] <= record["opponent_scores"][1]


def test_many_queries_with_a_task_into_a_result_file(proponent: Command, made: Made, tmp_path: Path) -> None:
    hits = tmp_path / "new" / "hits.jsonl"
    answer = proponent(
        "trace",
        made.run,
        made.facts,
        "--task",
        made.facts,
        "--mix",
        "0.5",
        "-k",
        "3",
        "-o",
        hits,
        "--device",
        "cpu",
    )
    assert (answer.code, answer.out) == (0, "")
    assert "task mix: λ = 0.5000 (given)" in answer.err
    records = [json.loads(line) for line in hits.read_text().splitlines()]
    assert [record["fact_id"] for record in records] == ["f0", "f1"]
    for record, fact in zip(records, FACTS, strict=True):
        assert record["mix"] == 0.5
        assert record["proponent_correct"] == [id in fact["trex_sentences"] for id in record["proponent_ids"]]

    answer = proponent("info", hits, "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["queries"] == 2
    again = proponent("trace", made.run, hits, "-k", "1", "--json")
    assert [json.loads(line)["example_id"] for line in again.out.splitlines()] == ["f0", "f1"]


def test_an_automatic_mix_is_shown(proponent: Command, made: Made) -> None:
    answer = proponent("trace", made.run, made.facts, "--task", made.facts, "-k", "1", "--json")
    assert answer.code == 0
    mix = json.loads(answer.out.splitlines()[0])["mix"]
    assert f"task mix: λ = {mix:.4f} (automatic)" in answer.err


def test_tables_are_readable(proponent: Command, made: Made) -> None:
    answer = proponent("trace", made.run, "--prompt", "Gold has the", "--target", "symbol Au", "-k", "1")
    assert answer.code == 0
    assert "Gold has the → symbol Au" in answer.out
    rows = [line.split() for line in answer.out.splitlines()]
    (proponents,) = [row for row in rows if row[:1] == ["proponents"]]
    assert proponents[2:5] == ["gold", "Gold", "has"]
    assert "✓" not in answer.out
    assert answer.out.splitlines()[-1] == "trackstar, no task mix, 5 rows searched"
    assert [row for row in rows if row[:1] == ["opponents"]]
    answer = proponent("info", made.run)
    assert answer.code == 0
    assert str(made.model) in "".join(answer.out.split())
    assert "attention 1-2: 2 layers x (q_proj+k_proj+v_proj, o_proj)" in answer.out
    assert "1 empty" in answer.out
    answer = proponent("trace", made.run, made.facts, "--task", made.facts, "--mix", "0.5", "-k", "1")
    assert "gold" in answer.out.splitlines()[2].split(), "a column for facts"
    assert answer.out.splitlines()[-1] == "trackstar, task mix λ = 0.5000, 5 rows searched"
    assert proponent("check", made.run).out == f"{made.run}: sound, 7 files\n"


def test_a_finished_run_is_not_made_again(proponent: Command, made: Made) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.run.rglob("*")}
    assert proponent(*index_arguments(made, made.run)).code == 0
    assert {path: path.stat().st_mtime_ns for path in made.run.rglob("*")} == before


def test_a_passage_without_a_finite_gradient_is_named_and_counted(
    proponent: Command, made: Made, tmp_path: Path
) -> None:
    model = load_model(str(made.model), device="cpu")
    token = byte_tokenizer().convert_tokens_to_ids("G")
    model.causal.get_input_embeddings().weight.data[token] = float("inf")
    model.causal.save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    broken = Made(tmp_path / "model", made.corpus, made.facts, tmp_path / "run")
    answer = proponent(*index_arguments(broken, broken.run))
    assert answer.code == 0
    assert f"{broken.run}: 4 rows, " in answer.out
    assert "2 skipped" in answer.out
    assert "skipped: 'gold' gave a gradient that is not finite" in answer.out
    facts = json.loads(proponent("info", broken.run, "--json").out)
    assert facts["skipped"]["not_finite"] == ["gold"]
    assert "1 whose gradient was not finite: gold" in proponent("info", broken.run).out


RUN_AND_TELL = """
import sys
from proponent.cli import main
try:
    main()
except SystemExit as end:
    print("code", end.code)
print("heavy", *sorted({"torch", "transformers", "pyarrow"} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["index", "--help"], ["trace", "--help"], ["info", "--help"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_TELL, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert done.stdout.splitlines()[-2:] == ["code 0", "heavy"], done.stderr
    assert "Usage" in done.stdout


def test_it_is_a_module_and_a_process_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proponent", "info", str(tmp_path / "nothing.jsonl")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    Answer(done.returncode, done.stdout, done.stderr).assert_refused(
        "nothing.jsonl: no such run or result file"
    )
    assert len(done.stderr.splitlines()) == 1


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
        ("c.jsonl.gz", gzip.compress(GOOD * 99)[:-9], ["c.jsonl.gz: cannot be read", "is the file whole?"]),
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
        (["--dim", "0"], ["dim is 0; it must be at least 1"]),
        (["--layer-groups", "0"], ["layer_groups is 0; it must be at least 1"]),
        (["--second-moment", "sampled"], ["'none' nor a file", "optimizer.pt"]),
        (["--output-function", "entropy"], ["output is 'entropy'; choose one of loss, margin, logit"]),
        (["--max-length", "65"], ["the model reads at most 64 tokens; use --max-length 64"]),
        (["--max-length", "3"], ["a max-length of 3 tokens is too short; it must be at least 4"]),
        (["--max-length", "1"], ["max_length is 1"]),
        (["--batch-tokens", "-5"], ["batch_tokens is -5; it must be at least 1"]),
        (["--damping", "0"], ["damping is 0.0; it must be a positive number"]),
        (["--damping", "nan"], ["damping is nan"]),
        (["--dtype", "int8"], ["dtype is 'int8'; choose one of float32, bfloat16"]),
        (["--device", "nowhere"], ["device 'nowhere' cannot be used here"]),
        (["--limit", "0"], ["a limit of 0 passages leaves none"]),
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
    answer.assert_refused(f"{made.run}: this run was made with other settings: spec.damping was 1.0, now 3.0")
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
        (None, ["q.jsonl: no such file of queries"]),
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
        (["FACTS", "--method", "trak"], ["does not fit a run with second-moment", "--second-moment none"]),
        (["FACTS", "-k", "0"], ["k is 0; this run holds 5 passages, give 1 to that many"]),
        (["FACTS", "-k", "6"], ["k is 6; this run holds 5 passages"]),
        (["FACTS", "--limit", "0"], ["a limit of 0 queries leaves none"]),
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
        (flipped("index/00000.safetensors"), ["index/00000.safetensors: damaged", "build the run again"]),
        (flipped("examples/00000.parquet"), ["examples/00000.parquet: damaged"]),
        (flipped("run.json"), ["run.json: damaged"]),
        (flipped("done.json"), ["done.json: damaged"]),
        (flipped("moments.safetensors"), ["moments.safetensors: damaged"]),
        (flipped("whitening.safetensors"), ["whitening.safetensors: damaged"]),
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
    proponent("check", tmp_path / "run").assert_refused(*words[:1])


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
    (tmp_path / "hits.jsonl").write_text("earlier results\n")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    answer = proponent("trace", made.run, made.facts, "-k", "1", "-o", tmp_path / "hits.jsonl")
    answer.assert_refused("hits.jsonl: no space left on the disk")
    assert (tmp_path / "hits.jsonl").read_text() == "earlier results\n"
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
    proponent("info", made.facts).assert_refused("neither a run folder nor a result file")
    (tmp_path / "broken.jsonl").write_text("{")
    proponent("info", tmp_path / "broken.jsonl").assert_refused("broken.jsonl:1: not JSON")
