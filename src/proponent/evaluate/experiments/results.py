"""What experiments give back, and the cells that their tables share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proponent.attribute.attribution import Attribution
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


def patch_effects(study: Study, hits: Attribution, k: int = 10) -> dict[str, float]:
    """Mean tail-patch of the first k proponents, by query id, measured where it is not known yet."""
    return study.effects(hits, study.step).of(study.cut(hits), k)


def points_text(found: Estimate) -> str:
    """Percentage points with their interval."""
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def relations(study: Study, ids: list[str]) -> int:
    """Number of relations of these queries."""
    return len({study.gold.facts[id].relation for id in ids})
