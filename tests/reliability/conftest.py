"""A small model for runs."""

from tests.build.conftest import model

__all__ = ["model"]
