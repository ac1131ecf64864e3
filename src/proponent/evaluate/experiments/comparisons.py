"""Methods side by side: the paper's Table 1, its top k, the model's own correctness, the step's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from proponent.attribute.attribution import Attribution, Hit
from proponent.evaluate.correctness import predictions
from proponent.evaluate.experiments.closed_set import ClosedSet
from proponent.evaluate.experiments.figures import Figure, Line
from proponent.evaluate.experiments.study import BM25, RANDOM, TRACKSTAR
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.metrics import estimate, paired_difference
from proponent.evaluate.text import points
from proponent.index.mix import WHITE_MIX

TOP = (1, 3, 5, 10)
COMPARED = (BM25, "TRAK", "gradient cosine, V", "TrackStar, R_train only", TRACKSTAR)
RATES = (1e-5, 1e-4, 1e-3, 1e-2)


def table1_methods(study: ClosedSet) -> dict[str, Attribution]:
    """Every method of the paper's Table 1, each correction of TrackStar left out alone, and Kronecker."""
    (no_v,) = study.variants([{"second_moment": "none"}])
    return {
        RANDOM: study.baseline("random"),
        BM25: study.baseline("bm25"),
        "embedding": study.baseline("embedding"),
        "TRAK": study.traced("trak", run=no_v),
        "gradient dot, no V": study.traced("dot", run=no_v),
        "gradient cosine, no V": study.traced("cosine", run=no_v),
        "gradient cosine, V": study.traced("cosine"),
        "TrackStar without V": study.traced("trackstar,second_moment=no", task=True, run=no_v),
        "TrackStar, R_train only": study.traced("trackstar"),
        "TrackStar without unit norm": study.traced("trackstar,unit_norm=no", task=True),
        TRACKSTAR: study.traced("trackstar", task=True),
        "Kronecker, R_train = I": study.traced("kronecker", run=study.factored),
        "Kronecker, task mix": study.traced("kronecker", task=True, mix=WHITE_MIX, run=study.factored),
    }


def table1(study: ClosedSet) -> Table:
    """MRR, Recall@10 and tail-patch of every method."""
    hits = table1_methods(study)
    scores, effects = study.scores(hits), study.patched(hits)
    rows = []
    for name, found in scores.items():
        best = [effects[TRACKSTAR][query] for query in effects[name]]
        beside = paired_difference(best, list(effects[name].values()))
        rows.append((name, *found.cells, points(beside)))
    reported = study.ids(reported=True)
    notes = (
        f"MRR and Recall@10 over {len(reported)} facts of {study.relations(reported)} relations; tail-patch "
        f"of the top 10, in percentage points, over {len(study.patch_ids)} of them; 95% bootstrap intervals.",
    )
    columns = ("method", "MRR", "Recall@10", "tail-patch", "TrackStar minus it")
    return Table("Retrieval and tail-patch of every method", columns, tuple(rows), notes)


def topk(study: ClosedSet) -> Table:
    """Tail-patch over the top 1, 3, 5 and 10."""
    hits = table1_methods(study)
    lines = _lines({float(k): study.patched(hits, k=k) for k in TOP})
    shown = {n: lines[n] for n in (RANDOM, BM25, "gradient cosine, V", TRACKSTAR)}
    title = "Tail-patch of the first k proponents"
    figure = Figure(title, "k", "change of probability (points)", shown)
    note = f"Percentage points over {len(study.patch_ids)} facts, 95% bootstrap intervals."
    return _line_table(lines, [f"top {k}" for k in TOP], figure, note)


def correctness(study: ClosedSet) -> Table:
    """Everything split by whether the model gets the fact right."""
    reported = study.ids(reported=True)
    asked = study.queries.subset(reported)
    said = predictions(study.tracer.model, asked, study.folder / "predictions.jsonl", study.given.progress)
    hits = table1_methods(study)
    right = [id for id in reported if said[id].correct]
    wrong = [id for id in reported if not said[id].correct]
    rows, measured = [], study.patched(hits)
    for name, h in hits.items():
        verdict, effects = study.judged(name, h), measured[name]
        cells = [name]
        for group in (right, wrong):
            found = verdict.estimates(group) if group else {}
            patched = [effects[id] for id in group if id in effects]
            cells += [
                str(found["MRR"]) if found else "—",
                str(found["Recall@10"]) if found else "—",
                points(estimate(patched)) if patched else "—",
            ]
        rows.append(tuple(cells))
    columns = (
        "method",
        *(f"{m}, {g}" for g in ("right", "wrong") for m in ("MRR", "Recall@10", "tail-patch")),
    )
    share = sum(said[id].share for id in right + wrong) / len(right + wrong)
    note = (
        f"The model's greedy answer is right for {len(right)} of {len(right) + len(wrong)} facts; of its "
        f"samples at temperature 1, {share:.1%} are."
    )
    return Table("Facts that the model gets right, and wrong", columns, tuple(rows), (note,))


def specificity(study: ClosedSet) -> Table:
    """Tail-patch of a query's proponents on that query, and on the next one of the same relation.

    What helps the neighbour as much is of the relation, or of the prompt's form, and not of the fact.
    """
    found = table1_methods(study)
    methods = {name: found[name] for name in COMPARED}
    own = study.patched(methods)
    other = study.patched({name: _swapped(study, hits) for name, hits in methods.items()})
    rows = []
    for name in methods:
        theirs = list(other[name].values())
        ours = [own[name][id] for id in other[name]]
        cells = (estimate(ours), estimate(theirs), paired_difference(ours, theirs))
        rows.append((name, *map(points, cells)))
    note = f"Percentage points over {len(theirs)} facts, top 10, 95% bootstrap intervals."
    columns = ("method", "own query", "next of the relation", "own minus next")
    return Table("Tail-patch on a query's own and its neighbour's proponents", columns, tuple(rows), (note,))


def _swapped(study: ClosedSet, hits: Attribution) -> Attribution:
    """Hits of the tail-patch's queries as if each were of the next query of its relation, in a ring."""
    by_relation: dict[str, list[Hit]] = {}
    for hit in study.cut(hits):
        by_relation.setdefault(study.gold.facts[hit.query.id].relation, []).append(hit)
    swapped = [
        replace(hit, query=following.query)
        for group in by_relation.values()
        if len(group) > 1
        for hit, following in zip(group, (*group[1:], group[0]), strict=True)
    ]
    return Attribution(tuple(swapped), hits.settings)


def rates(study: ClosedSet) -> Table:
    """Tail-patch against the learning rate of the step."""
    hits = {name: h for name, h in table1_methods(study).items() if name in (RANDOM, BM25, TRACKSTAR)}
    default = study.step
    tried = sorted({*RATES, default.learning_rate})
    lines = _lines({rate: study.patched(hits, replace(default, learning_rate=rate)) for rate in tried})
    kind = "relative to each matrix's size" if default.relative else "absolute"
    title = "Tail-patch of the top 10 against the learning rate"
    figure = Figure(title, f"learning rate ({kind})", "points", lines, log=True)
    note = f"The rate is {kind}; default {default.learning_rate:g}."
    return _line_table(lines, [f"{rate:g}" for rate in tried], figure, note)


def _lines(measured: Mapping[float, Mapping[str, Mapping[str, float]]]) -> dict[str, Line]:
    """Each method's mean against x, from x → method → query id → effect."""
    names = next(iter(measured.values()))
    return {
        name: [(x, estimate(list(effects[name].values()))) for x, effects in measured.items()]
        for name in names
    }


def _line_table(lines: Mapping[str, Line], columns: Sequence[str], figure: Figure, note: str) -> Table:
    """A row a method and a column for each x, with the figure that shows the same."""
    rows = tuple((name, *(points(e) for _, e in line)) for name, line in lines.items())
    return Table(figure.title, ("method", *columns), rows, (note,), {"figure": figure})
