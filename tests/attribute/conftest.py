"""The two small runs, for the tests of this folder."""

from tests.runs import _one_thread, model_folder, plain_run, run

__all__ = ["_one_thread", "model_folder", "plain_run", "run"]
