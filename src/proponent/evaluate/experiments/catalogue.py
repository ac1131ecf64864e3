"""The experiments by name.  Settings are chosen on some relations; tables report on the others.

An experiment's code is imported when it is run, so that they can be listed at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from proponent.errors import InputError

if TYPE_CHECKING:
    from proponent.evaluate.experiments.results import Result
    from proponent.evaluate.experiments.study import Study


class Experiment(NamedTuple):
    """about: what its table shows, in a line.  module, function: where it is."""

    about: str
    module: str
    function: str

    def run(self, study: Study) -> Result:
        """The experiment on a study."""
        result: Result = getattr(import_module(f"{__package__}.{self.module}"), self.function)(study)
        return result


EXPERIMENTS = {
    "table1": Experiment("MRR, Recall@10 and tail-patch of every method", "comparisons", "table1"),
    "topk": Experiment("tail-patch over the top 1, 3, 5 and 10", "comparisons", "topk"),
    "correctness": Experiment("facts that the model gets right, and wrong", "comparisons", "correctness"),
    "lambda": Experiment("MRR and Recall@10 against λ of the task mix", "sweeps", "lambdas"),
    "damping": Experiment("MRR and Recall@10 against the damping of R_train", "sweeps", "damping"),
    "dimension": Experiment("MRR and tail-patch against the dimension", "sweeps", "dimension"),
    "outputs": Experiment("loss, margin and logit as the output function", "sweeps", "outputs"),
    "rate": Experiment("tail-patch against the learning rate of its step", "comparisons", "rates"),
    "specificity": Experiment("tail-patch on the query and on another one", "comparisons", "specificity"),
}


def named(name: str) -> Experiment:
    """The experiment of this name; InputError where there is none."""
    if name not in EXPERIMENTS:
        raise InputError(f"no experiment '{name}'; choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
