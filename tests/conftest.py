"""What several folders of tests need."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# Two shared cores: a slow moment of the machine is no failure, and a run can be repeated.
settings.register_profile("proponent", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("proponent")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real material beside the repository; tests that need it skip where it is missing."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"the real material is not here ({folder})")
    return folder
