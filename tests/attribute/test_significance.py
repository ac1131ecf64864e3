"""How many passages would score as high by chance, and what is said where none stands out."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.runs import QUERIES
from torch import Tensor

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.attribute.notebook import attribution_html
from proponent.attribute.significance import by_chance, chances, nothing_stands_out, stands_out
from proponent.attribute.table import print_hit
from proponent.errors import InputError
from proponent.index.search import best


def noise(queries: int, rows: int, seed: int = 0) -> Tensor:
    """Scores with exponential tails on both sides, as those of unrelated passages have."""
    draw = torch.Generator().manual_seed(seed)
    signs = torch.rand(queries, rows, generator=draw).sub(0.5).sign()
    return signs * torch.empty(queries, rows).exponential_(generator=draw) * 0.02


def test_chance_counts_what_noise_gives() -> None:
    """Of 400 queries' noise alone: the expected number of passages above the first is 1, and levels hold."""
    rows = 3000
    found = best(noise(400, rows), 3)
    above, below = chances(found, rows)
    for side in (above, below):
        first = side[:, 0]
        # the number at the first's own score is exponential with mean 1, so P(chance <= a) = 1 - exp(-a)
        for level in (0.05, 0.2, 1.0):
            expected = 1 - math.exp(-level)
            error = 3 * math.sqrt(expected * (1 - expected) / 400) + 0.02
            assert abs(float((first <= level).double().mean()) - expected) < error
        assert (side.diff(dim=1) >= 0).all()
    assert above.max() <= rows


def test_a_passage_that_stands_out_does_whatever_the_unit_and_the_middle() -> None:
    scores = noise(1, 2000)
    scores[0, 7], scores[0, 9] = 0.5, -0.6
    for scale, shift in ((1.0, 0.0), (30.0, 4.0)):
        found = best(scores * scale + shift, 2)
        above, below = chances(found, 2000)
        assert above[0, 0] < 1e-6
        assert above[0, 1] > 0.05
        assert below[0, 0] < 1e-7
        assert below[0, 1] > 0.05
    few = best(noise(1, 50), 2)
    assert chances(few, 50)[0].isnan().all(), "too few passages for an outer percentile"
    same = best(torch.zeros(1, 500), 2)
    assert chances(same, 500)[0].isnan().all(), "no spread"


def hit(*chance: float | None) -> Hit:
    passages = tuple(
        ScoredPassage(f"p{n}", f"p{n}", f"text {n}", 0.5 - n / 10, chance=c) for n, c in enumerate(chance)
    )
    return Hit(next(iter(QUERIES)), passages, ())


def shown(one: Hit) -> str:
    page = io.StringIO()
    print_hit(Console(file=page, color_system=None, width=120), one)
    return page.getvalue()


def test_what_is_shown() -> None:
    some, none, unknown = hit(0.0004, 0.02, 7.5), hit(0.7, 3.0, 251.0), hit(None, None)
    assert [by_chance(p) for p in some.proponents] == ["<0.001", "0.02", "7.5"]
    assert [stands_out(p) for p in some.proponents] == [True, True, False]
    assert by_chance(none.proponents[2]) == "100+"
    assert by_chance(unknown.proponents[0]) == ""
    assert nothing_stands_out(some) == nothing_stands_out(unknown) == nothing_stands_out(hit()) == ""
    assert "about 0.7 passages" in nothing_stands_out(none)
    assert "by chance" in shown(some)
    assert "Nothing stands out" not in shown(some)
    assert "Nothing stands out" in shown(none)
    assert "chance" not in shown(unknown)
    page = attribution_html(Attribution((some, none), {}))
    assert page.count("Nothing stands out") == 1
    assert "&lt;0.001 by chance" in page


def test_a_result_file_keeps_it(tmp_path: Path) -> None:
    one = hit(0.25, None)
    Attribution((one,), {"method": "trackstar", "mix": None, "run": "r"}).write(tmp_path / "hits.jsonl")
    (again,) = Attribution.read(tmp_path / "hits.jsonl")
    assert [p.chance for p in again.proponents] == [0.25, None]
    text = (tmp_path / "hits.jsonl").read_text()
    for wrong in ("-1", '"0.1"', "true", "[]"):
        (tmp_path / "wrong.jsonl").write_text(text.replace("[0.25, null]", f"[{wrong}, null]"))
        with pytest.raises(InputError, match=r"proponent_chance.*must hold numbers from 0 up, or null"):
            Attribution.read(tmp_path / "wrong.jsonl")
    bare = Hit(one.query, tuple(replace(p, chance=None) for p in one.proponents), ())
    assert "proponent_chance" not in bare.record()
