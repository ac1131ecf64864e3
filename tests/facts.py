"""Records of a facts file, in the schema of the paper's release."""

from __future__ import annotations

from typing import Any


def fact_record(
    id: str, triple: tuple[str, str, str], gold: list[str], prompt: str, relation: str | None = None
) -> dict[str, Any]:
    """A whole fact: triple holds the URIs of subject, relation and object, which are their names as well.

    relation: its name, where that is another than its URI.
    """
    subject, predicate, thing = triple
    return {
        "fact_id": id,
        "entity0": subject,
        "relation": relation or predicate,
        "entity1": thing,
        "entity0_uri": subject,
        "predicate_uri": predicate,
        "entity1_uri": thing,
        "entity1_alias": [thing],
        "trex_sentences": gold,
        "prompt0": prompt,
    }
