"""Tiny models that the tests of this folder share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tests.models import make_model

from proponent.gradients.model import LanguageModel, load_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The saved tiny model of a family, made once; read it, never write to it."""
    return cache(lambda family: make_model(tmp_path_factory.mktemp("models") / family, family))


@pytest.fixture(scope="session")
def shared_model(model_folder: Callable[[str], Path]) -> Callable[[str], LanguageModel]:
    """The loaded tiny model of a family; leave its weights as they are."""
    return cache(lambda family: load_model(str(model_folder(family)), device="cpu"))


@pytest.fixture
def copy(tmp_path: Path, model_folder: Callable[[str], Path]) -> Path:
    """A tiny Llama's folder to spoil."""
    return Path(shutil.copytree(model_folder("llama"), tmp_path / "model"))
