"""A run of 16 gold sentences of a tiny model, and its facts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.facts import fact_record
from tests.models import make_model

from proponent.build.indexing import build_index
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example
from proponent.gradients.spec import FeatureSpec

PLACES = {"Oslo": "Norway", "Rome": "Italy", "Lima": "Peru", "Cairo": "Egypt"}


def write_facts(path: Path) -> Path:
    records = [
        fact_record(
            f"{subject}|{relation}|{thing}",
            (subject, relation, thing),
            [f"{relation}-{subject}"],
            f"{subject} is a {relation} of",
        )
        for relation in ("capital", "city", "seat", "port")
        for subject, thing in PLACES.items()
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of 16 gold sentences, and its facts."""
    folder = tmp_path_factory.mktemp("experiments")
    facts = write_facts(folder / "facts.jsonl")
    corpus = Corpus.of(
        [
            Example(f"{relation}-{subject}", f"The {relation} {subject}: {thing}.", "here")
            for relation in ("capital", "city", "seat", "port")
            for subject, thing in PLACES.items()
        ]
    )
    model = make_model(folder / "model", bos_token_id=0)
    spec = FeatureSpec(model=str(model), dim=6 * 16, max_length=48, batch_tokens=500, moment_sample=8)
    build_index(corpus, spec, folder / "run", "cpu")
    return folder / "run", facts
