"""The experiments by name.  Settings are chosen on some relations; tables report on the others.

An experiment's code is imported when it is run, so that they can be listed at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from proponent.errors import InputError
from proponent.evaluate.experiments.given import Given
from proponent.progress import Progress, Silent
from proponent.remote import require_local

if TYPE_CHECKING:
    from proponent.evaluate.experiments.study import Study
    from proponent.evaluate.experiments.tables import Table

# What an experiment may be given besides a run, and how a command line gives it.
INPUTS = {
    "facts": "--facts FACTS",
    "sentences": "--sentences SENTENCES",
    "nli": "--nli MODEL",
    "models": "--model MODEL",
    "queries": "QUERIES",
}


class Experiment(NamedTuple):
    """about: what its table shows, in a line.  module, function: where it is.

    takes: the fields of ``Given`` that it needs.  may_take: those that it can do without.
    study: module and class of the study that it is made on.
    """

    about: str
    module: str
    function: str
    takes: tuple[str, ...] = ("facts",)
    may_take: tuple[str, ...] = ()
    study: tuple[str, str] = ("closed_set", "ClosedSet")


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
    "open-set": Experiment(
        "MRR, Recall@10 and tail-patch with gold by entailment",
        "open_set",
        "open_set",
        may_take=("nli",),
        study=("open_set", "OpenSet"),
    ),
    "headroom": Experiment(
        "what proponents that do not state the fact are about",
        "headroom",
        "headroom",
        may_take=("sentences", "nli"),
        study=("headroom", "Headroom"),
    ),
    "compact": Experiment("what compact codes lose, by bytes a passage", "compact", "codes"),
    "scaling": Experiment(
        "several models, and checkpoints of one training", "scaling", "scaling", ("facts", "models")
    ),
    "selection": Experiment(
        "training on passages selected for some facts, judged on others",
        "selection",
        "selection",
        study=("selection", "Selection"),
    ),
    "significance": Experiment(
        "how often a score that stands out is one of chance",
        "significance",
        "significance",
        study=("significance", "Significance"),
    ),
    "lds": Experiment(
        "scores against models trained again on halves of the corpus", "lds", "lds", study=("lds", "Halves")
    ),
    "removal": Experiment(
        "models trained again without the passages that a method names",
        "removal",
        "removal",
        study=("removal", "Removal"),
    ),
    "tasks": Experiment(
        "any prompts and targets, with R_train alone",
        "tasks",
        "tasks",
        ("queries",),
        study=("tasks", "Tasks"),
    ),
}


def named(name: str) -> Experiment:
    """The experiment of this name; InputError where there is none."""
    if name not in EXPERIMENTS:
        raise InputError(f"no experiment '{name}'; choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def experiment(
    name: str,
    run: str | os.PathLike[str],
    facts: str | os.PathLike[str] | None = None,
    *,
    sentences: str | os.PathLike[str] | None = None,
    nli: str | None = None,
    models: Sequence[str | os.PathLike[str]] = (),
    queries: Sequence[str | os.PathLike[str]] = (),
    patch_queries: int = 60,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> Table:
    """One of the paper's tables or figures from a finished run; called again, it goes on; see ``Given``.

    Raises InputError for an unknown name, for what the experiment does not take or lacks, and for facts or
    queries that do not fit the run.
    """
    require_local(run, "an experiment keeps its work in the folder of the run; copy the run to this machine")
    given = Given(
        Path(run),
        None if facts is None else Path(facts),
        None if sentences is None else Path(sentences),
        nli,
        tuple(os.fspath(model) for model in models),
        tuple(Path(path) for path in queries),
        patch_queries,
        seed,
        device,
        progress or Silent(),
    )
    require_inputs(name, given)
    return run_experiment(name, _imported(*named(name).study)(given))


def require_inputs(name: str, given: Given) -> None:
    """Raise InputError where an experiment lacks what it needs or is given what it does not take."""
    found = named(name)
    usage = "".join(f" {INPUTS[field]}" for field in found.takes)
    usage += "".join(f" [{INPUTS[field]}]" for field in found.may_take)
    for field, how in INPUTS.items():
        has = bool(getattr(given, field))
        if has != (field in found.takes) and field not in found.may_take:
            what = f"takes no {how}" if has else f"needs {how}"
            raise InputError(f"experiment '{name}' {what}: proponent experiment {name} RUN{usage}")


def run_experiment(name: str, study: Study) -> Table:
    """Run one experiment and write its table and figures to a folder of its own, beside those of the others.

    What earlier runs and other experiments of the study made is used again.
    """
    found = named(name)
    table: Table = _imported(found.module, found.function)(study)
    table.write(study.home / name)
    return table


def _imported(module: str, name: str) -> Any:
    return getattr(import_module(f"{__package__}.{module}"), name)
