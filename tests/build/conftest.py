"""The two small runs, and made-up features, for the tests of this folder."""

from tests.index.conftest import features
from tests.runs import model_folder, plain_run, run

__all__ = ["features", "model_folder", "plain_run", "run"]
