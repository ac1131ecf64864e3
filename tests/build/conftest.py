"""For the tests of this folder: two small runs, made-up features, quick workers, a model of small shards."""

from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest
from tests.index.conftest import features
from tests.models import make_model
from tests.runs import model_folder, plain_run, run

from proponent.build import indexing, plan, processes
from proponent.build import repair as repairing
from proponent.gradients.model import load_model

__all__ = ["features", "model_folder", "plain_run", "run"]


@pytest.fixture
def forking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forks, for tests that are not of how one starts: those born anew import torch each.

    Not for builds that are killed: a fork holds the lock of its run until it finds its parent dead.
    """
    monkeypatch.setattr(processes, "get_context", lambda _: get_context("fork"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model, loaded once for all builds of a file, whose shards are small."""
    folder = make_model(tmp_path_factory.mktemp("small") / "model")
    loaded = load_model(str(folder), device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        for module in (indexing, repairing):
            patch.setattr(module, "load_model", lambda *_: loaded)
        patch.setattr(plan, "SHARD_ROWS", 3)
        patch.setattr(plan, "SHARD_TOKENS", 100)
        yield folder
