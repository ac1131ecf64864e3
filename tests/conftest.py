"""What several folders of tests need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Two shared cores: a slow moment of the machine is no failure, and a run can be repeated.
settings.register_profile("proponent", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("proponent")

# Files of few tests that take many seconds each.
LONG = (
    "build/test_ray.py",
    "build/test_executors.py",
    "evaluate/test_retraining.py",
    "build/test_indexing.py",
    "reliability/test_kills.py",
    "evaluate/test_scaling.py",
    "evaluate/test_experiments.py",
    "cli/test_process.py",
    "cli/test_view.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, then those of many tests: no core has a long one left when the others are done."""
    tests = Counter(item.path for item in items)
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: (places.get(item.path, len(LONG)), -tests[item.path]))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real material beside the repository; tests that need it skip where it is missing."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"the real material is not here ({folder})")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from threads, which on a busy machine wait for one another for seconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
