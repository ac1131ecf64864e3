"""Retraining by the same recipe on part of the corpus, kept as it is made, and the score that it gives."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.facts import fact_record
from tests.references.tail_patch import target_probability
from tests.reliability.forked import Kills

pytest.importorskip("accelerate", reason="needs the extra 'pretrain'")

from proponent.attribute.attribution import Hit, ScoredPassage
from proponent.attribute.baselines import baseline
from proponent.attribute.exact import exact_scores
from proponent.attribute.method import Method
from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example, Query
from proponent.errors import InputError
from proponent.evaluate import retraining
from proponent.evaluate.experiments import facts_study
from proponent.evaluate.experiments import lds as lds_module
from proponent.evaluate.experiments import removal as removal_module
from proponent.evaluate.experiments.catalogue import experiment
from proponent.evaluate.experiments.given import Given
from proponent.evaluate.experiments.lds import Halves, correlations
from proponent.evaluate.experiments.removal import Removal, first_sources
from proponent.evaluate.metrics import spearman
from proponent.evaluate.retraining import Training
from proponent.gradients.model import load_model
from proponent.gradients.spec import FeatureSpec
from proponent.pretraining import pretrain
from proponent.pretraining.again import Recipe, retrain
from proponent.progress import Silent

PLACES = {"Oslo": "Norway", "Rome": "Italy", "Lima": "Peru", "Cairo": "Egypt", "Bern": "Switzerland"}
LONG = "The town hall of Bern, which is in Switzerland, has been rebuilt again and again since then."
PASSAGES = [
    *(Example(f"a-{p}", f"{p} is in {c}.", "here") for p, c in PLACES.items()),
    *(Example(f"b-{p}", f"Whoever sees {p} is in {c}.", "here") for p, c in PLACES.items()),
    Example("long", LONG, "here"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run whose model was pretrained on its own passages, and facts."""
    folder = tmp_path_factory.mktemp("retrained")
    records = [
        fact_record(f"f-{p}", (p, "country", c), [f"a-{p}", f"b-{p}"], f"{p} is in")
        for p, c in PLACES.items()
    ]
    facts = folder / "facts.jsonl"
    facts.write_text("".join(json.dumps(record) + "\n" for record in records))
    corpus = Corpus.of(PASSAGES)
    pretrain(corpus, folder / "model", "nano", epochs=12, batch=4, seed=3)
    spec = FeatureSpec(str(folder / "model"), dim=6 * 16, max_length=20, batch_tokens=500)
    build_index(corpus, spec, folder / "run", "cpu")
    return folder / "run", facts


class HerePool:
    """A pool of no processes."""

    def __init__(
        self, workers: int, context: object, start: Callable[..., None], given: Iterable[Any]
    ) -> None:
        start(*given)

    def __enter__(self) -> HerePool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    map = staticmethod(map)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few halves, trained in this process."""
    monkeypatch.setattr(retraining, "ProcessPoolExecutor", HerePool)
    monkeypatch.setattr(lds_module, "HALVES", 3)
    monkeypatch.setattr(lds_module, "WIDER", 6 * 64)
    monkeypatch.setattr(removal_module, "WIDER", 6 * 64)
    monkeypatch.setattr(facts_study, "NARROW", 6 * 16)


def study_of(made: tuple[Path, Path]) -> Halves:
    return Halves(Given(made[0], made[1], device="cpu"))


def test_the_same_recipe_gives_the_same_model(made: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = Recipe.of(str(made[0].parent / "model"))
    retrain(recipe, Corpus.of(PASSAGES), tmp_path / "again", seed=3)
    first, again = (load_model(str(f), "cpu") for f in (recipe.folder, tmp_path / "again"))
    assert again.identity == first.identity
    assert again.encoder.fingerprint() == first.encoder.fingerprint()
    retrain(recipe, Corpus.of(PASSAGES[:6]), tmp_path / "part", seed=3)
    record = json.loads((tmp_path / "part" / "pretrain.json").read_text())
    assert record["settings"]["epochs"] == 12
    steps = [p.name for p in (tmp_path / "part" / "checkpoints").iterdir()]
    assert steps == ["checkpoint-24"], "as many epochs of fewer passages: 12 times two batches"


def test_models_that_cannot_be_trained_again(tmp_path: Path) -> None:
    for content in (None, "{", "{}", '{"settings": {}, "result": {}}'):
        if content is not None:
            (tmp_path / "pretrain.json").write_text(content)
        with pytest.raises(InputError, match=r"no record of its training|unfinished"):
            Recipe.of(str(tmp_path))


def test_log_probabilities_are_those_of_the_retrained_model(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own, here a fork, which need not import torch again."""
    monkeypatch.setattr(retraining, "get_context", lambda _: get_context("fork"))
    study = study_of(made)
    training = Training("some", frozenset({0, 3, 10}), seed=5)
    found = study.retraining.log_probabilities([training], Silent())[training]
    kept = [p for n, p in enumerate(PASSAGES) if n not in training.without]
    retrain(study.retraining.recipe, Corpus.of(kept), tmp_path / "again", seed=5)
    model = load_model(str(tmp_path / "again"), "cpu")
    expected = [target_probability(model, model.encoder.query(q, 20)) for q in study.queries]
    assert np.exp(found) == pytest.approx(expected, rel=2e-3)
    study.retraining.path.unlink()


@pytest.mark.usefixtures("here")
def test_they_are_kept_and_go_on(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(made)
    trainings = [Training(f"t{n}", frozenset({n}), 1) for n in range(3)]
    found = study.retraining.log_probabilities(trainings, Silent())
    path = study.retraining.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    trained: list[object] = []
    real = retraining._Worker.train
    monkeypatch.setattr(retraining._Worker, "train", lambda t: (trained.append(t), real(t))[1])
    assert study.retraining.log_probabilities(trainings, Silent()) == found
    assert trained == [(frozenset({2}), 1)]
    assert path.read_bytes() == whole
    other = [Training("t0", frozenset({7}), 1)]
    with pytest.raises(InputError, match=r"truth.jsonl:1: 't0' was trained on other passages"):
        study.retraining.log_probabilities(other, Silent())
    path.unlink()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
@pytest.mark.usefixtures("here")
def test_killed_at_random_moments_the_file_ends_the_same(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lds_module, "SEEDS", (1,))
    kills = Kills()

    def work(place: Path) -> None:
        if not place.exists():
            copy = place.with_name(f"copy-{os.getpid()}")
            shutil.copytree(made[0], copy)
            copy.rename(place)
        _ = study_of((place, made[1])).truth

    kills.of(work, tmp_path / "killed", 10)
    print(f"retraining: {kills}")
    assert kills.killed >= 5


@pytest.mark.usefixtures("here", "made_up")
def test_what_a_killed_training_left_is_removed(made: tuple[Path, Path]) -> None:
    study = study_of(made)
    path = study.retraining.path
    left = path.parent / f"{retraining.MODELS}left"
    (left / "model").mkdir(parents=True)
    study.retraining.log_probabilities([Training("t0", frozenset({0}), 1)], Silent())
    assert not list(path.parent.glob(f"{retraining.MODELS}*"))
    path.unlink()


@pytest.mark.usefixtures("here", "made_up")
def test_halves_predictions_and_the_table(made: tuple[Path, Path]) -> None:
    table = experiment("lds", made[0], made[1], device="cpu")
    study = study_of(made)
    assert study.inside.sum(0).tolist() == [5, 5, 5], "half of eleven passages"
    assert len({tuple(half) for half in study.inside.T.tolist()}) == 3
    assert len(study.inside_by_row) == len(study.index) > len(PASSAGES), "one passage is cut"
    # the sum of a method's scores over the rows of the passages in a half
    hits = Tracer(made[0], "cpu").trace(study.queries, "cosine", len(study.index))
    numbers = {p.id: n for n, p in enumerate(PASSAGES)}
    sums = study.predicted(study.tracer, "cosine")
    for n, hit in enumerate(hits):
        for half in range(3):
            expected = sum(p.score for p in hit.proponents if study.inside[numbers[p.source], half])
            assert float(sums[n, half]) == pytest.approx(expected, abs=1e-4)
    bm25 = baseline("bm25", study.corpus, study.queries, len(study.index))
    for n, hit in enumerate(bm25):
        sources = {row.id: row.source for row in study.index.rows()}
        expected = sum(p.score for p in hit.proponents if study.inside[numbers[sources[p.id]], 0])
        assert float(study.by_text("bm25")[n, 0]) == pytest.approx(expected, rel=1e-4)
    gold = study.by_gold()
    assert gold[0].tolist() == (study.inside[0] + study.inside[5]).tolist()
    truth = study.truth
    assert truth.shape == (2, 3, 5)
    values = correlations(gold, truth.mean(0))
    assert values[2] == pytest.approx(spearman(gold[2].tolist(), truth.mean(0)[:, 2].tolist()))
    (row,) = (row for row in table.rows if row[0] == "gold passages as scores")
    assert row[2].startswith(f"{sum(values) / 5:.3f} ")
    kronecker = [row for row in table.rows if row[0].startswith("Kronecker, ")]
    assert [(row[0].removeprefix("Kronecker, "), row[1]) for row in kronecker] == [
        *((f"{how}, {d}", f"{d}") for d in (96, 384) for how in ("cosine", "mix")),
        ("exact", "—"),
        ("margin, 384", "384"),
        ("margin, exact", "—"),
        *((f"{how}, 4,096 bytes", "384") for how in ("cosine", "mix", "margin")),
        ("4,096 bytes, exact first 100", "—"),
        ("cosine, 4 checkpoints", "384"),
        ("exact, 4 checkpoints", "—"),
        ("4,096 bytes, 4 checkpoints", "384"),
    ]
    # fewer passages than are scored again: then all are, and the pair is the exact method
    assert kronecker[-4][2:] == kronecker[4][2:]
    along = [Tracer(path, "cpu") for path in study.along]
    assert [Path(t.spec.model).name for t in along] == [f"checkpoint-{n}" for n in (9, 18, 27, 36)]
    every = [t.trace(study.queries, "exact", len(study.index)) for t in along]
    for n, hits_of in enumerate(zip(*every, strict=True)):
        expected = sum(p.score for h in hits_of for p in h.proponents if study.inside[numbers[p.source], 0])
        found = study.averaged_exact(study.along).sums[n, 0]
        assert float(found) == pytest.approx(expected / len(along), abs=1e-5)
    whole = exact_scores(
        study.tracer, list(study.queries), Method.of("cosine"), range(len(study.index)), Silent()
    )
    sums = whole @ study.inside_by_row.double()
    assert study.exact("cosine").sums == pytest.approx(sums, abs=1e-6)
    assert all(float(row[4].split()[0]) > 0 for row in kronecker), "they find gold passages"
    kept = study.folder / "scores" / "EK-FAC.safetensors"
    plain, unit = study.kept("EK-FAC", list)  # from the file: nothing is made
    assert plain.shape == unit.shape == (len(PLACES), len(study.index))
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(InputError, match=r"EK-FAC.safetensors: damaged; remove it"):
        study.ekfac()
    kept.unlink()
    patched = {row[0]: row[6] for row in table.rows if row[6] != "—"}
    assert len(patched) == len(table.rows) - 2, "of all but the gold passages and the ceiling"
    assert all(value[0] in "+-" for value in patched.values())
    assert table.rows[-1][0] == "one retraining by another"
    assert "5 facts" in table.notes[0]


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log-probabilities by what is left out and the seed, without any training."""

    def train(training: tuple[frozenset[int], int]) -> list[float]:
        draw = np.random.default_rng((training[1], *sorted(training[0])))
        return [round(-value, 4) for value in draw.random(len(PLACES)).tolist()]

    monkeypatch.setattr(retraining._Worker, "train", train)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts count as known whatever their probability; one or two passages are left out, at most four."""
    monkeypatch.setattr(facts_study, "KNOWN", 0.0)
    monkeypatch.setattr(removal_module, "MOST", 0.4)
    monkeypatch.setattr(removal_module, "SEEDS", (1, 2))
    monkeypatch.setattr(removal_module, "FACTS", 4)
    monkeypatch.setattr(removal_module, "TOP", (1, 2))
    monkeypatch.setattr(removal_module, "SHARE", 0.2)


@pytest.mark.usefixtures("here", "made_up", "few")
def test_what_is_removed_and_what_that_does(made: tuple[Path, Path]) -> None:
    study = Removal(Given(made[0], made[1], device="cpu"))
    assert study.numbers == (1, 2), "a fifth of eleven is two as well"
    assert [[len(batch) for batch in study.batches(k)] for k in (1, 2, 9)] == [[4], [2, 2], [1, 1, 1, 1]]
    assert sorted(id for batch in study.batches(2) for id in batch) == sorted(study.asked)
    hits = study.methods()["BM25"]
    planned = list(study.trainings("BM25", hits, 2))
    assert [(t.name.split(", ", 1)[1], t.seed) for _, t in planned] == [
        *(("top 2, batch 0, seed 1", 1), ("top 2, batch 0, seed 2", 2)),
        *(("top 2, batch 1, seed 1", 1), ("top 2, batch 1, seed 2", 2)),
    ]
    by_id, ids = {hit.query.id: hit for hit in hits}, [p.id for p in PASSAGES]
    batch, training = planned[0]
    named = {source for id in batch for source in first_sources(by_id[id], 2)}
    assert training.without == {ids.index(source) for source in named}
    table = experiment("removal", made[0], made[1], device="cpu")
    assert [row[:2] for row in table.rows[:2]] == [("1", "random"), ("1", "BM25")]
    assert len(table.rows) == 2 * 6
    # by hand from the kept log-probabilities
    lines = study.retraining.path.read_text().splitlines()
    known = {r["training"]: r["log_p"] for r in map(json.loads, lines)}
    places = {query.id: n for n, query in enumerate(study.queries)}
    nats = [
        np.mean(
            [
                known[f"BM25, top 2, batch {b}, seed {seed}"][places[id]]
                - known[f"whole, seed {seed}"][places[id]]
                for seed in (1, 2)
            ]
        )
        for b, batch in enumerate(study.batches(2))
        for id in batch
    ]
    (row,) = (row for row in table.rows if row[:2] == ("2", "BM25"))
    assert row[3].startswith(f"{np.mean(nats):+.2f} ")
    assert "over 4 of the 5 facts" in table.notes[0]


@pytest.mark.usefixtures("here")
def test_nothing_known_is_nothing_to_remove(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_study, "KNOWN", 1.1)
    with pytest.raises(InputError, match="its model knows none of the facts"):
        experiment("removal", made[0], made[1], device="cpu")


def test_chunks_of_one_passage_count_once() -> None:
    sources = ["a", "a", "b", "a", "c"]
    found = tuple(ScoredPassage(f"{s}#{n}", s, "text", 1.0) for n, s in enumerate(sources))
    assert first_sources(Hit(Query("q", "p", "t"), found, ()), 2) == ["a", "b"]


def test_spearman() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    # by hand: ranks 1, 2.5, 2.5, 4 against 2, 1, 3, 4
    assert spearman([1, 5, 5, 9], [0.2, 0.1, 0.3, 0.4]) == pytest.approx(3 / (4.5 * 5) ** 0.5)
    assert spearman([1, 1, 1], [1, 2, 3]) == 0
    with pytest.raises(ValueError, match="2 values beside 3"):
        spearman([1, 2], [1, 2, 3])
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(50, generator=draw), torch.randn(50, generator=draw)
    ranks = [x.argsort().argsort().double() for x in (a, b)]
    assert spearman(a.tolist(), b.tolist()) == pytest.approx(float(torch.corrcoef(torch.stack(ranks))[0, 1]))
