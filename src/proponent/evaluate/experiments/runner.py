"""Running an experiment: its tables and figures in a folder of their own, beside those of the others."""

from __future__ import annotations

import os
from pathlib import Path

from proponent.evaluate.experiments.catalogue import named
from proponent.evaluate.experiments.study import Study
from proponent.evaluate.experiments.tables import Table
from proponent.progress import Progress, Silent


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
    named(name)
    study = Study(Path(run), Path(facts), patch_queries, seed, device, progress or Silent())
    return run_experiment(name, study)


def run_experiment(name: str, study: Study) -> Table:
    """Run one experiment and write ``table.md``, ``table.csv`` and its figures (PNG and SVG).

    What earlier runs and other experiments of the study made is used again.
    Raises InputError for an unknown name and for facts that do not fit the run.
    """
    result = named(name).run(study)
    folder = study.folder / name
    result.table.write(folder)
    for called, figure in result.figures.items():
        figure.write(folder, called)
    return result.table
