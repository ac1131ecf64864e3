"""The two small runs, for the tests of this folder."""

from tests.runs import model_folder, plain_run, run

__all__ = ["model_folder", "plain_run", "run"]
