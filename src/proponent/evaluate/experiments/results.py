"""What experiments give back, and the cells that their tables share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proponent.attribute.attribution import Attribution
from proponent.attribute.tail_patch import PatchStep
from proponent.evaluate.experiments.figures import Figure
from proponent.evaluate.experiments.study import Study
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.metrics import Estimate

TRACKSTAR = "TrackStar"
RANDOM = "random"


@dataclass(frozen=True)
class Result:
    """What an experiment gives: a table, and figures by file name."""

    table: Table
    figures: Mapping[str, Figure] = field(default_factory=dict)


def patch_effects(
    study: Study, methods: Mapping[str, Attribution], step: PatchStep | None = None, k: int = 10
) -> dict[str, dict[str, float]]:
    """Mean tail-patch of the first k proponents of each method, by query id.

    step: the study's own unless given.  What is not known yet is measured for all methods together, so
    that a passage which several of them retrieved gives its gradient once.
    """
    cuts = {name: study.cut(hits) for name, hits in methods.items()}
    effects = study.effects([hit for cut in cuts.values() for hit in cut], step or study.step)
    return {name: effects.of(cut, k) for name, cut in cuts.items()}


def points_text(found: Estimate) -> str:
    """Percentage points with their interval."""
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def relations(study: Study, ids: list[str]) -> int:
    """Number of relations of these queries."""
    return len({study.gold.facts[id].relation for id in ids})
