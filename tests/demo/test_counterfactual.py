"""The demo's counterfactual: which passages are left out, and what is told of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.demo.test_story import made, tiny

from proponent.attribute.attribution import Attribution
from proponent.cli.demo import print_counterfactual, print_demo
from proponent.demo import counterfactual as module
from proponent.demo.counterfactual import counterfactual
from proponent.demo.story import Demo
from proponent.evaluate.retraining import Retraining, Training
from proponent.pretraining.again import Recipe
from proponent.progress import Progress, Silent

__all__ = ["made", "tiny"]
SAID = {"without TrackStar": 0.05, "without BM25": 0.25, "without random": 0.5}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """The trainings that are asked for; each model gives every target one probability."""
    asked: list[Training] = []

    def answer(self: Retraining, trainings: Sequence[Training], _: Progress) -> dict[Training, list[float]]:
        asked.extend(trainings)
        return {t: [math.log(SAID[t.name])] * len(self.queries) for t in trainings}

    monkeypatch.setattr(Retraining, "log_probabilities", answer)
    monkeypatch.setattr(module.Recipe, "of", lambda model: Recipe(Path(model), {"seed": 7}))
    return asked


def test_the_top_passages_of_each_are_left_out(made: Demo, trained: list[Training]) -> None:
    found = counterfactual(made, 0, Silent())
    assert [(t.name, t.seed) for t in trained] == [(name, 7) for name in SAID]
    own, text, chance = (t.without for t in trained)
    # sentences are g0, d0, g1, d1, ...
    number = {f"{kind}{n}": 2 * n + (kind == "d") for n in range(10) for kind in "gd"}
    assert own == {number[p.source] for hit in made.shown for p in hit.proponents[:3]}
    bm25 = {hit.query.id: hit for hit in Attribution.read(made.folder / "hits" / "bm25.jsonl")}
    assert text == {number[p.source] for hit in made.shown for p in bm25[hit.query.id].proponents[:3]}
    assert 3 < len(chance) <= 3 * len(made.shown)
    assert found.left_out == {"TrackStar": len(own), "BM25": len(text), "random": len(chance)}
    for name, p in found.without.items():
        assert list(p.values()) == pytest.approx([SAID[f"without {name}"]] * len(made.shown))
    assert found.before == {hit.query.id: made.probabilities[hit.query.id] for hit in made.shown}


@pytest.mark.usefixtures("trained")
def test_it_is_told_in_a_sentence_and_on_the_page(made: Demo, capfd: pytest.CaptureFixture[str]) -> None:
    found = counterfactual(made, 0, Silent())
    print_counterfactual(found)
    said = " ".join(capfd.readouterr().out.split())
    first = found.hits[0].query
    assert f"“{first.prompt}”: trained again without the top 3 passages of TrackStar" in said
    before = found.before[first.id]
    told = f"0.05 instead of {before:.2f}; without BM25's 0.25, without random ones 0.50."
    assert f"“{first.target}” {told}" in said
    assert f"look: proponent view '{found.file}'" in said
    kept = Attribution.read(found.file)
    fields = kept[0].query.fields
    assert fields["p without TrackStar's top 3"] == 0.05
    assert fields["p without random 3"] == 0.5
    assert fields["p"] == pytest.approx(before, abs=1e-4)
    assert [len(hit.proponents) for hit in kept] == [3] * len(made.shown)


def test_the_demo_names_it(made: Demo, capfd: pytest.CaptureFixture[str]) -> None:
    print_demo(made)
    said = capfd.readouterr().out.splitlines()
    assert said[-1].startswith(f"then: proponent demo '{made.folder}' --counterfactual")
