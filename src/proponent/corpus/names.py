"""Names of fields in result files: the older ones of the paper's release, and columns of passages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What a field was called in older files → what it is called now; the page has the same table.
OLDER_NAMES = {
    "trex_id": "fact_id",
    "temperature_samples": "8b_generations",
    "model_confidence": "8b_confidence",
    "fact_frequency": "c4_frequency",
    "frequency_bucket": "c4_frequency_bucket",
    "ground_truth": "groundtruth",
}
ROLES = ("proponent", "opponent")
# Columns that a ``ScoredPassage`` holds; any other is kept as it is.
PASSAGE_COLUMNS = frozenset(
    f"{role}{column}"
    for role in ROLES
    for column in (
        *("s", "_ids", "_sources", "_scores", "_correct"),
        *("_chance", "_tokens", "_target_tokens", "_adds", "_duplicates"),
    )
)


def renamed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields under the newer names; where a record has both names of one, the newer counts."""
    return {
        OLDER_NAMES.get(name, name): value
        for name, value in fields.items()
        if name not in OLDER_NAMES or OLDER_NAMES[name] not in fields
    }


def is_passage_column(name: str) -> bool:
    """Whether a field is of the passages of a result, one value each, and not of its query."""
    return name in PASSAGE_COLUMNS or name.startswith(tuple(f"{role}_" for role in ROLES))
