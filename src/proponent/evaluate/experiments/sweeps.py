"""One setting of TrackStar at a time: λ, damping, feature dimension, output function."""

from __future__ import annotations

from collections.abc import Mapping

from proponent.attribute.attribution import Attribution
from proponent.evaluate.experiments.figures import Figure
from proponent.evaluate.experiments.results import (
    TRACKSTAR,
    Result,
    patch_effects,
    points_text,
    relations,
)
from proponent.evaluate.experiments.study import Study
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.metrics import Estimate, estimate
from proponent.index.damping import RULES

LAMBDAS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
DAMPINGS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
DIMENSIONS = tuple(2**power for power in range(10, 17))


def lambdas(study: Study) -> Result:
    """MRR and Recall@10 against λ, and the automatic choice."""
    found = {f"{mix:g}": study.traced("trackstar", task=True, mix=mix) for mix in LAMBDAS}
    automatic = study.traced("trackstar", task=True)
    chosen = float(automatic.settings["mix"] or 0.0)
    table, lines = _both_halves(study, {**found, f"automatic ({chosen:.3f})": automatic}, "λ")
    points = {
        name: [(float(label), e) for label, e in line if not label.startswith("automatic")]
        for name, line in lines.items()
    }
    return Result(table, {"figure": Figure("MRR against λ of the task mix", "λ", "MRR", points)})


def damping(study: Study) -> Result:
    """MRR and Recall@10 against the damping of R_train, and the rules that read it off the data."""
    settings: tuple[float | str, ...] = (*DAMPINGS, *RULES)
    found = {str(d): study.traced("trackstar", task=True, damping=d) for d in settings}
    table, lines = _both_halves(study, found, "damping")
    points = {
        name: [(float(label), e) for label, e in line if label not in RULES] for name, line in lines.items()
    }
    figure = Figure("MRR against damping", "damping / mean eigenvalue", "MRR", points, log=True)
    return Result(table, {"figure": figure})


def dimension(study: Study) -> Result:
    """MRR and tail-patch against the feature dimension, each from a projection of its own."""
    own = int(study.index.spec["dim"])
    changed = [d for d in DIMENSIONS if d != own]
    folders = dict(zip(changed, study.variants([{"dim": d} for d in changed]), strict=True))
    reported = study.ids(reported=True)
    rows, mrr, patch = [], [], []
    dims = sorted({*changed, own})
    hits = {str(d): study.traced("trackstar", task=True, run=folders.get(d)) for d in dims}
    effects = patch_effects(study, hits)
    for d in dims:
        found = study.judged(str(d), hits[str(d)]).estimates(reported)
        effect = estimate(list(effects[str(d)].values()))
        rows.append((f"{d:,}", str(found["MRR"]), str(found["Recall@10"]), points_text(effect)))
        mrr.append((float(d), found["MRR"]))
        patch.append((float(d), effect))
    columns = ("d", "MRR", "Recall@10", "tail-patch")
    figures = {
        "mrr": Figure("MRR against the feature dimension", "d", "MRR", {TRACKSTAR: mrr}, log=True),
        "tail-patch": Figure(
            "Tail-patch against the feature dimension", "d", "points", {TRACKSTAR: patch}, log=True
        ),
    }
    return Result(Table("Feature dimension", columns, tuple(rows)), figures)


def outputs(study: Study) -> Result:
    """Loss, margin and logit as the output function of queries, and of passages and queries."""
    reported = study.ids(reported=True)
    cases = {}
    variants = {o: study.variants([{"output": o}])[0] for o in ("margin", "logit")}
    for output in ("loss", "margin", "logit"):
        method = f"trackstar,output={output}"
        cases[f"query {output}, passages loss"] = study.traced(method, task=True)
        if output in variants:
            cases[f"both {output}"] = study.traced(method, task=True, run=variants[output])
    rows, effects = [], patch_effects(study, cases)
    for name, hits in cases.items():
        found = study.judged(name, hits).estimates(reported)
        effect = estimate(list(effects[name].values()))
        rows.append((name, str(found["MRR"]), str(found["Recall@10"]), points_text(effect)))
    columns = ("output function", "MRR", "Recall@10", "tail-patch")
    return Result(Table("Output functions", columns, tuple(rows)))


def _both_halves(
    study: Study, found: Mapping[str, Attribution], column: str
) -> tuple[Table, dict[str, list[tuple[str, Estimate]]]]:
    """A table and lines of MRR on the relations to choose on and on those to report on."""
    halves = {"chosen on": study.ids(reported=False), "reported": study.ids(reported=True)}
    rows, lines = [], {half: list[tuple[str, Estimate]]() for half in halves}
    for label, hits in found.items():
        verdict = study.judged(label, hits)
        cells = [label]
        for half, ids in halves.items():
            estimates = verdict.estimates(ids)
            cells += [str(estimates["MRR"]), str(estimates["Recall@10"])]
            lines[half].append((label, estimates["MRR"]))
        rows.append(tuple(cells))
    columns = (column, *(f"{m}, {half}" for half in halves for m in ("MRR", "Recall@10")))
    note = "; ".join(
        f"{half}: {len(ids)} facts of {relations(study, ids)} relations" for half, ids in halves.items()
    )
    return Table(f"MRR and Recall@10 against {column}", columns, tuple(rows), (note + ".",)), lines
