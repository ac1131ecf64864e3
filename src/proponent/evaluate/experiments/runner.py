"""Running an experiment: its tables and figures in a folder of their own, beside those of the others."""

from __future__ import annotations

from proponent.errors import InputError
from proponent.evaluate.experiments.catalogue import EXPERIMENTS
from proponent.evaluate.experiments.study import Study
from proponent.evaluate.experiments.tables import Table


def run_experiment(name: str, study: Study) -> Table:
    """Run one experiment and write ``table.md``, ``table.csv`` and its figures (PNG and SVG).

    What earlier runs and other experiments of the study made is used again.
    Raises InputError for an unknown name and for facts that do not fit the run.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"no experiment '{name}'; choose one of {', '.join(EXPERIMENTS)}")
    result = EXPERIMENTS[name](study)
    folder = study.folder / name
    result.table.write(folder)
    for called, figure in result.figures.items():
        figure.write(folder, called)
    return result.table
