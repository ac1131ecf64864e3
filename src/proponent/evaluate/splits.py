"""Groups of queries by a field of their record or their fact, to judge each group by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from proponent.attribute.attribution import OWN_FIELDS, Hit
from proponent.corpus.names import OLDER_NAMES, is_passage_column
from proponent.corpus.records import kind
from proponent.errors import InputError
from proponent.evaluate.gold import Gold

MOST_GROUPS = 200  # of words; numbers are cut into parts instead
MOST_NUMBERS = 12  # distinct numbers that are each a group
PARTS = 4  # of equally many queries, where there are more
MISSING = "not given"


@dataclass(frozen=True)
class Split:
    """A field's groups: called with a hit it names its group.

    field: its name.  note: what was done to its values, in words; None where each is a group.
    """

    field: str
    value: Callable[[Hit], Any]
    label: Callable[[Any], str]
    note: str | None = None

    def __call__(self, hit: Hit) -> str:
        """The group of a hit's query."""
        value = self.value(hit)
        return MISSING if value is None else self.label(value)


def split_by(field: str, hits: Iterable[Hit], gold: Gold) -> Split:
    """The split of some hits by a field of the result record, or else of the fact; older names are known.

    Values that are words, true or false, or few numbers are a group each; more than `MOST_NUMBERS` distinct
    numbers are cut into quarters of equally many queries.  Raises InputError for a field that no query has,
    that holds lists or objects, or that has more than `MOST_GROUPS` distinct words.
    """
    name = OLDER_NAMES.get(field, field)
    known = [hit for hit in hits if gold.of(hit)]

    def value(hit: Hit) -> Any:
        given = hit.query.fields.get(name)
        return gold.fields_of(hit).get(name) if given is None else given

    values = [found for hit in known if (found := value(hit)) is not None]
    if not values:
        raise InputError(f"--split {field}: no query has this field; there are: {_names(known, gold)}")
    for found in values:
        if not isinstance(found, str | int | float):
            raise InputError(f"--split {field}: holds {kind(found)}; give a field of one value a query")
    distinct = set(values)
    if all(isinstance(found, int | float) for found in distinct) and len(distinct) > MOST_NUMBERS:
        return _quarters(name, value, [float(found) for found in values])
    if len(distinct) > MOST_GROUPS:
        remedy = f"give a field with at most {MOST_GROUPS}"
        raise InputError(f"--split {field}: {len(distinct):,} distinct values; {remedy}")
    return Split(name, value, _in_words)


def _quarters(name: str, value: Callable[[Hit], Any], values: Sequence[float]) -> Split:
    """Numbers cut at their quartiles; a group is called by the least and the greatest number in it."""
    edges = np.unique(np.quantile(values, np.arange(1, PARTS) / PARTS, method="lower"))
    part = np.searchsorted(edges, values)  # value <= edges[part], so equal numbers stay together
    named = {}
    for n in np.unique(part):
        inside = [found for found, its in zip(values, part, strict=True) if its == n]
        ends = dict.fromkeys(map(_in_words, (min(inside), max(inside))))
        named[int(n)] = " to ".join(ends)
    note = f"{name}: {len(set(values)):,} distinct numbers, cut at their quartiles"
    return Split(name, value, lambda found: named[int(np.searchsorted(edges, float(found)))], note)


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _names(hits: Sequence[Hit], gold: Gold) -> str:
    """Fields of one value, that a split could be by."""
    found: dict[str, None] = {}
    for hit in hits:
        fields: Mapping[str, Any] = {**gold.fields_of(hit), **hit.query.fields}
        for name, value in fields.items():
            one = isinstance(value, str | int | float) and name not in OWN_FIELDS
            if one and not is_passage_column(name):
                found[name] = None
    return ", ".join(found) or "none"
