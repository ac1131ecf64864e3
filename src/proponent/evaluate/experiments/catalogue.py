"""The experiments by name.  Settings are chosen on some relations; tables report on the others.

An experiment's code is imported when it is run, so that they can be listed at once.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from proponent.errors import InputError
from proponent.progress import Progress, Silent

if TYPE_CHECKING:
    from proponent.evaluate.experiments.study import Study
    from proponent.evaluate.experiments.tables import Table


class Experiment(NamedTuple):
    """about: what its table shows, in a line.  module, function: where it is."""

    about: str
    module: str
    function: str


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


def experiment(
    name: str,
    run: str | os.PathLike[str],
    facts: str | os.PathLike[str],
    *,
    patch_queries: int = 60,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> Table:
    """One of the paper's tables from a finished run; called again, it goes on; see ``Study``.

    Raises InputError for an unknown name and for facts that do not fit the run.
    """
    from proponent.evaluate.experiments.study import Study

    named(name)
    study = Study(Path(run), Path(facts), patch_queries, seed, device, progress or Silent())
    return run_experiment(name, study)


def run_experiment(name: str, study: Study) -> Table:
    """Run one experiment and write its table and figures to a folder of its own, beside those of the others.

    What earlier runs and other experiments of the study made is used again.
    Raises InputError for an unknown name and for facts that do not fit the run.
    """
    found = named(name)
    table: Table = getattr(import_module(f"{__package__}.{found.module}"), found.function)(study)
    table.write(study.folder / name)
    return table
