"""Invented result rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

CITIES = {
    "Tallinn": "Estonia",
    "Riga": "Latvia",
    "Vilnius": "Lithuania",
    "Oslo": "Norway",
    "Dublin": "Ireland",
    "Vienna": "Austria",
    "Bern": "Switzerland",
    "Lisbon": "Portugal",
}


def result_row(
    id: str,
    prompt: str,
    target: str,
    proponents: Sequence[tuple[str, str, bool]],
    opponents: Sequence[tuple[str, str]] = (),
    **more: Any,
) -> dict[str, Any]:
    """A line of a result file.  proponents: (id, text, gold), best first.  opponents: (id, text)."""
    return {
        "example_id": id,
        "query_set": "facts",
        "fact_id": id,
        "inputs_plaintext": prompt,
        "targets_plaintext": target,
        "proponents": [text for _, text, _ in proponents],
        "proponent_ids": [id for id, _, _ in proponents],
        "proponent_scores": [round(0.9 - 0.1 * n, 4) for n in range(len(proponents))],
        "proponent_correct": [gold for _, _, gold in proponents],
        "opponents": [text for _, text in opponents],
        "opponent_ids": [id for id, _ in opponents],
        "opponent_scores": [round(-0.5 + 0.1 * n, 4) for n in range(len(opponents))],
        **more,
    }


def capital_rows(gold_first: bool = True, **more: Any) -> list[dict[str, Any]]:
    """Eight facts about capitals; the fact of each odd one is found at once, of each even one not.

    gold_first: turn this round, so that two files differ in every query.
    """
    rows = []
    for n, (city, country) in enumerate(CITIES.items()):
        stated = (f"s{n}", f"{city} is the capital of {country}.", True)
        other = (f"t{n}", f"Many people live in {city}, far from the sea.", False)
        third = (f"u{n}", "The weather was fine for most of the week.", False)
        proponents = [stated, other, third] if (n % 2 == 0) == gold_first else [other, third]
        against = [(f"v{n}", f"{country} has a long coast."), (f"w{n}", "Nobody came.")]
        relation = "capital" if n < 6 else "seat of government"
        prompt = f"The capital of {country} is"
        rows.append(result_row(f"f{n}", prompt, city, proponents, against, relation=relation, **more))
    return rows


def lines_of(rows: Sequence[Any]) -> str:
    """Rows as JSON lines; a text stays as it is, to be a broken line."""
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
