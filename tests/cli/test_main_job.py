"""The main job on the command line, from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.processes import python
from tests.cli.running import FACTS, PASSAGES, Answer, Command, Made, index_arguments
from tests.models import byte_tokenizer

from proponent.gradients.model import load_model


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
    assert (facts["codec"], facts["uncovered"]) == ("float16", {})
    assert facts["made_with"]["threads"] >= 1
    assert facts["made_with"]["versions"].keys() == {"proponent", "torch", "transformers", "tokenizers"}
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


def test_token_scores_on_request(proponent: Command, made: Made, tmp_path: Path) -> None:
    how = ("trace", made.run, made.facts, "-k", "2", "--device", "cpu")
    plain = proponent(*how, "--json")
    assert "proponent_tokens" not in plain.out
    shaded = proponent(*how, "--tokens", "--json")
    for line, before in zip(shaded.out.splitlines(), plain.out.splitlines(), strict=True):
        record, without = json.loads(line), json.loads(before)
        for role in ("proponent", "opponent"):
            for text, tokens in zip(record[f"{role}s"], record.pop(f"{role}_tokens"), strict=True):
                assert "".join(part for part, _ in tokens) == text
            for target in record.pop(f"{role}_target_tokens"):
                assert "".join(part for part, _ in target).strip() == record["targets_plaintext"]
        assert record == without
    assert "tokens: " in proponent(*how, "--tokens").out


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
    assert proponent("check", made.run).out == f"{made.run}: sound, 13 files\n"


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
    done = python("-c", RUN_AND_TELL, *arguments)
    assert done.stdout.splitlines()[-2:] == ["code 0", "heavy"], done.stderr
    assert "Usage" in done.stdout


def test_it_is_a_module_and_a_process_too(tmp_path: Path) -> None:
    done = python("-m", "proponent", "info", str(tmp_path / "nothing.jsonl"))
    Answer(done.returncode, done.stdout, done.stderr).assert_refused(
        "nothing.jsonl: no such run or result file"
    )
    assert len(done.stderr.splitlines()) == 1
