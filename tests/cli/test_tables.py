"""What is printed: tables that fit 80 columns and hold no more than there is to say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.attribute.table import print_hits
from proponent.corpus.example import Query
from proponent.evaluate.evaluation import Judged, compared
from proponent.evaluate.info import Info, _readable_block, info

GOLD = {"trex_sentences": ["a"]}
RUN = {
    "run": "runs/one",
    "passages": 1205,
    "rows": 1200,
    "tokens": 12345,
    "skipped": {"empty": 2, "too_short": 0, "not_finite": ["x[1]", "y"]},
    "bytes": 3 * 2**20,
    "spec": {"model": "some/model", "dim": 8192, "size": 0},
    "dim": 8192,
    "blocks": 2,
    "side": 64,
    "codec": "float16",
    "uncovered": {f"layers.0.odd{n}.weight": 0.25 / 2**n for n in range(7)},
    "layers": {"attention 0-0": ["model.layers.0.self_attn.q_proj"]},
    "eigenvalues": {
        "largest": 9.0,
        "crossing_rank": 125,
        "at_crossing": 7.5,
        "median": 2.0,
        "smallest": 1.0,
    },
    "made_with": {"versions": {"torch": "2.9", "tokenizers": "0.22"}, "threads": 3},
    "fingerprints": {"model": "0123456789abcdef", "corpus": "fedcba9876543210"},
}


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def hits(fields: dict[str, object], mix: float | None = None) -> Attribution:
    passages = tuple(ScoredPassage(id, id, f"text [bold] of {id} " * 9, 0.5) for id in "ab")
    hit = Hit(Query("q", "The [red] prompt", "its target", fields), passages, passages[1:])
    return Attribution((hit,), {"method": "trackstar", "mix": mix, "run": "runs/one"})


def test_hits_have_a_gold_column_only_where_there_is_gold(capsys: pytest.CaptureFixture[str]) -> None:
    print_hits(hits({}), 1200)
    plain = capsys.readouterr().out
    assert "The [red] prompt → its target" in plain
    assert "text [bold] of a" in plain
    assert "gold" not in plain
    assert plain.splitlines()[-1] == "trackstar, no task mix, 1,200 rows searched"
    print_hits(hits(GOLD, 0.25), 1200)
    marked = capsys.readouterr().out
    assert "gold" in marked
    assert marked.count("✓") == 1
    assert marked.splitlines()[-1] == "trackstar, task mix λ = 0.2500, 1,200 rows searched"
    assert max(map(len, (plain + marked).splitlines())) <= 80
    first, second = hits({})[0], hits(GOLD)[0]
    print_hits(Attribution((first, second)), 1200)
    assert capsys.readouterr().out.count("gold") == 1, "each query has its own table"


def test_a_run_in_words() -> None:
    out = str(Info(RUN))
    words = " ".join(out.split())
    assert "2 empty 2 whose gradient was not finite: x[1], y" in words
    assert "too short" not in words
    assert "attention 0: 1 layer x (q_proj)" in words
    assert "chosen for each task at trace time" in words
    assert "rank 125 (σ_train = 7.5)" in words
    assert "model 0123456789ab, corpus fedcba987654" in words
    assert "codec float16" in words
    assert "made with 3 threads, torch 2.9, tokenizers 0.22" in words
    assert "left out layers.0.odd0.weight: 25.0% of the squared gradient layers.0.odd1.weight: 12.5%" in words
    assert "odd4.weight: 1.6% of the squared gradient and 2 more R_train" in words
    assert "left out none" in " ".join(str(Info({**RUN, "uncovered": {}})).split())
    assert max(map(len, out.splitlines())) <= 80


def test_a_result_file_in_words_leaves_out_what_it_does_not_say(tmp_path: Path) -> None:
    hits(GOLD, 0.25).write(tmp_path / "full.jsonl")
    found = info(tmp_path / "full.jsonl")
    assert (found.values["judged"], found.values["top_gold"], found.values["mix"]) == (1, 1, 0.25)
    assert "top proponent is gold  1 of 1 queries" in str(found)
    bare = {"inputs_plaintext": "p", "targets_plaintext": "t", "proponents": ["x"], "proponent_ids": ["1"]}
    (tmp_path / "bare.jsonl").write_text(json.dumps(bare))
    out = str(info(tmp_path / "bare.jsonl"))
    assert "None" not in out
    names = ["result", "queries", "proponents", "opponents"]
    assert [line.split()[0] for line in out.splitlines() if not line.startswith(" ")] == names


@pytest.mark.parametrize(
    ("name", "matrices", "said"),
    [
        (
            "attention 0-1",
            [
                f"model.layers.{n}.self_attn.{m}"
                for n in (0, 1)
                for m in (f"q_proj+model.layers.{n}.self_attn.k_proj", "o_proj")
            ],
            "attention 0-1: 2 layers x (q_proj+k_proj, o_proj)",
        ),
        ("mlp 11-11", ["transformer.h.11.mlp.c_fc"], "mlp 11: 1 layer x (c_fc)"),
        ("mlp 0-0", ["h.0.up", "h.0.down"], "mlp 0: 1 layer x (up, down)"),
        ("mlp 0-0", ["h.0.mlp.up", "h.0.gate.down"], "mlp 0: 1 layer x (mlp.up, gate.down)"),
        (
            "mlp 0-2",
            ["h.0.mlp.up", "h.1.mlp.up", "h.2.mlp.up", "h.2.mlp.extra"],
            "mlp 0-2: 2 layers x (up); 1 layer x (up, extra)",
        ),
    ],
)
def test_layers_are_told_without_what_they_share(name: str, matrices: list[str], said: str) -> None:
    assert _readable_block(name, matrices) == said


def test_estimates_fit_80_columns_with_their_intervals_whole() -> None:
    relations = ["capital", "place of birth", "located in the administrative territorial entity"]
    values = {f"q{n}": n % 10 / 10 for n in range(9000)}
    groups = {id: relations[n % 3] for n, id in enumerate(values)}
    by_metric = dict.fromkeys(("MRR", "Recall@10", "precision@10"), values)
    first = Judged("a/path/that/is/long/" * 5, by_metric, groups)
    turned = {metric: {id: 1 - v for id, v in values.items()} for metric in by_metric}
    lines = compared([first, Judged("b.jsonl", turned, groups)]).splitlines()
    table = [line for line in lines if first.name not in line]
    assert max(map(len, table)) <= 80
    assert relations[2] in lines, "a name too long for its column has its own line"
    rows = [line for line in table if "[" in line]
    assert len(rows) == 9, "four rows for each file, one for their difference"
    assert all(line.count("[") == line.count("]") == 3 for line in rows)
    assert lines[2].split()[:4] == ["all", "9000", ".450", "[.44,"]
