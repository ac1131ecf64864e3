"""A real 134.5M-parameter model on real sentences, end to end; skipped where the material is not here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from proponent.attribute.tracing import Tracer
from proponent.build.indexing import build_index
from proponent.corpus import Corpus, Queries
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import load_model
from proponent.gradients.spec import FeatureSpec
from tests.features import extractor
from tests.references.gradients import exact_feature, weight_gradients

pytestmark = pytest.mark.slow
SENTENCES = 60


@pytest.fixture(scope="session")
def smollm2(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tool = tmp_path_factory.mktemp("real") / "smollm2", shared_dir / "tools" / "get-smollm2"
    if not tool.is_file():
        pytest.skip("the tool that makes the model is not here")
    done = subprocess.run([str(tool), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the model could not be made: {done.stderr[-200:]}")
    return folder


def test_features_of_real_sentences_are_those_of_autograd(smollm2: Path, shared_dir: Path) -> None:
    """Relative 1e-3 in float32, through 30 layers."""
    model = load_model(str(smollm2), device="cpu")
    plan = plan_layers(model, 16 * 64, 8)
    assert len(plan.blocks) == 16
    corpus = Corpus.read(shared_dir / "trex" / "sentences.jsonl.gz", limit=3)
    rows = [next(model.encoder.chunks(example, 128)).tokens for example in corpus]
    found = extractor(model, plan)(rows, [model.encoder.start] * len(rows), "loss")
    ones = {m.name: torch.ones(sum(m.outputs), m.inputs) for m in plan.matrices}
    for row, feature in zip(rows, found, strict=True):
        gradients = weight_gradients(model, plan.matrices, row, model.encoder.start)
        expected = exact_feature(gradients, plan, ones, 0)
        assert (feature - expected).norm() < 1e-3 * expected.norm()


def test_a_sentence_is_its_own_best_proponent(smollm2: Path, shared_dir: Path, tmp_path: Path) -> None:
    corpus = Corpus.read(shared_dir / "trex" / "sentences.jsonl.gz", limit=SENTENCES)
    spec = FeatureSpec(model=str(smollm2), dim=4096, moment_sample=16)
    index = build_index(corpus, spec, tmp_path / "run", "cpu")
    assert index.manifest["uncovered"] == {}
    assert len(index) == SENTENCES
    passages = list(index.rows())[:10]
    halves = [passage.text.split(" ") for passage in passages]
    pairs = [(" ".join(words[:3]), " ".join(words[3:])) for words in halves]
    hits = Tracer(index, "cpu").trace(Queries.of(pairs), "trackstar", k=3)
    first = [hit.proponents[0].id == passage.id for hit, passage in zip(hits, passages, strict=True)]
    assert sum(first) >= 9
