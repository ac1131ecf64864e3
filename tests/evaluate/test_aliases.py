"""Mentions of an entity by its names."""

from __future__ import annotations

import pytest

from proponent.evaluate.aliases import mentions, spans


@pytest.mark.parametrize(
    ("text", "names", "found"),
    [
        ("Paris is large.", ["Paris"], True),
        ("Parisian cafés", ["Paris"], False),
        ("comparison", ["Paris", "paris"], False),
        ("the city of  light, at night", ["City of Light"], True),
        ("an apple a day", ["Apple"], False),  # another word
        ("an apple a day", ["Apple Inc.", "Apple"], False),
        ("made by Apple Inc. in", ["Apple Inc."], True),
        ("Beef with beans", ["beef"], True),
        ("the BBC's news", ["BBC"], True),
        ("I said (C++).", ["C++"], True),
        ("Zürich", ["Zürich"], True),
        ("anything", ["", "  "], False),
        ("anything", [], False),
    ],
)
def test_a_mention_is_whole_words(text: str, names: list[str], found: bool) -> None:
    assert mentions(text, names) is found


def test_the_longest_name_is_found_where_several_begin() -> None:
    assert spans("New York City and York", ["New York", "New York City", "York"]) == [(0, 13), (18, 22)]
