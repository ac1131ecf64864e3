"""One setting of TrackStar at a time: λ, damping, feature dimension, output function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from proponent.attribute.attribution import Attribution
from proponent.evaluate.experiments.figures import Figure
from proponent.evaluate.experiments.study import TRACKSTAR, Scores, Study
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.metrics import Estimate
from proponent.index.damping import RULES

LAMBDAS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
DAMPINGS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
DIMENSIONS = tuple(2**power for power in range(10, 17))


def lambdas(study: Study) -> Table:
    """MRR and Recall@10 against λ, and the automatic choice."""
    found = {f"{mix:g}": study.traced("trackstar", task=True, mix=mix) for mix in LAMBDAS}
    automatic = study.traced("trackstar", task=True)
    chosen = float(automatic.settings["mix"] or 0.0)
    found[f"automatic ({chosen:.3f})"] = automatic
    return _both_halves(study, found, "λ", Figure("MRR against λ of the task mix", "λ", "MRR", {}))


def damping(study: Study) -> Table:
    """MRR and Recall@10 against the damping of R_train, and the rules that read it off the data."""
    settings: tuple[float | str, ...] = (*DAMPINGS, *RULES)
    found = {str(d): study.traced("trackstar", task=True, damping=d) for d in settings}
    figure = Figure("MRR against damping", "damping / mean eigenvalue", "MRR", {}, log=True)
    return _both_halves(study, found, "damping", figure)


def dimension(study: Study) -> Table:
    """MRR and tail-patch against the feature dimension, each from a projection of its own."""
    own = int(study.index.spec["dim"])
    changed = [d for d in DIMENSIONS if d != own]
    folders = dict(zip(changed, study.variants([{"dim": d} for d in changed]), strict=True))
    dims = sorted({*changed, own})
    hits = {f"{d:,}": study.traced("trackstar", task=True, run=folders.get(d)) for d in dims}
    scores = study.scores(hits)
    mrr, patch = (
        {TRACKSTAR: [(float(d), getattr(scores[f"{d:,}"], of)) for d in dims]} for of in ("mrr", "patch")
    )
    figures = {
        "mrr": Figure("MRR against the feature dimension", "d", "MRR", mrr, log=True),
        "tail-patch": Figure("Tail-patch against the feature dimension", "d", "points", patch, log=True),
    }
    return _score_table("Feature dimension", "d", scores, figures)


def outputs(study: Study) -> Table:
    """Loss, margin and logit as the output function of queries, and of passages and queries."""
    cases = {}
    variants = {o: study.variants([{"output": o}])[0] for o in ("margin", "logit")}
    for output in ("loss", "margin", "logit"):
        method = f"trackstar,output={output}"
        cases[f"query {output}, passages loss"] = study.traced(method, task=True)
        if output in variants:
            cases[f"both {output}"] = study.traced(method, task=True, run=variants[output])
    return _score_table("Output functions", "output function", study.scores(cases), {})


def _score_table(
    title: str, column: str, scores: Mapping[str, Scores], figures: Mapping[str, Figure]
) -> Table:
    rows = tuple((name, *found.cells) for name, found in scores.items())
    return Table(title, (column, "MRR", "Recall@10", "tail-patch"), rows, figures=figures)


def _both_halves(study: Study, found: Mapping[str, Attribution], column: str, figure: Figure) -> Table:
    """A table and lines of MRR on the relations to choose on and on those to report on.

    Labels that are no numbers are rules, which the figure leaves out.
    """
    halves = {"chosen on": study.ids(reported=False), "reported": study.ids(reported=True)}
    rows, lines = [], {half: list[tuple[float, Estimate]]() for half in halves}
    for label, hits in found.items():
        verdict = study.judged(label, hits)
        cells = [label]
        for half, ids in halves.items():
            estimates = verdict.estimates(ids)
            cells += [str(estimates["MRR"]), str(estimates["Recall@10"])]
            if label[0].isdigit():
                lines[half].append((float(label), estimates["MRR"]))
        rows.append(tuple(cells))
    columns = (column, *(f"{m}, {half}" for half in halves for m in ("MRR", "Recall@10")))
    note = "; ".join(
        f"{half}: {len(ids)} facts of {study.relations(ids)} relations" for half, ids in halves.items()
    )
    drawn = {"figure": replace(figure, lines=lines)}
    return Table(f"MRR and Recall@10 against {column}", columns, tuple(rows), (note + ".",), drawn)
