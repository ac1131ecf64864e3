"""A small corpus and a model that was pretrained on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from proponent.corpus import Corpus

PLACES = ("the harbour", "the old mill", "the market", "the north tower", "the orchard")
CORPUS = Corpus.of(
    [
        f"Guide number {n} leads visitors to {PLACES[n % 5]} {'every day ' * (n % 3)}at noon."
        for n in range(30)
    ]
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of 12 steps."""
    pytest.importorskip("accelerate", reason="needs the extra 'pretrain'")
    from proponent.pretraining import pretrain

    folder = tmp_path_factory.mktemp("pretrained") / "model"
    pretrain(CORPUS, folder, steps=12, batch=8)
    return folder
