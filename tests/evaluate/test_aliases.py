"""Mentions of an entity by its names."""

from __future__ import annotations

import unicodedata

import pytest

from proponent.evaluate.aliases import mentions, outside, spans


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


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("L’Aquila lies in Italy.", "L'Aquila"),
        (unicodedata.normalize("NFD", "José sings."), "José"),
        ("José sings.", unicodedata.normalize("NFD", "José")),
    ],
)
def test_apostrophes_and_encodings_of_accents_do_not_matter(text: str, name: str) -> None:
    assert mentions(text, [name])


def test_a_letter_is_no_name_beside_longer_ones() -> None:
    assert not mentions("A man sleeps.", ["A", "Alpha"])
    assert mentions("Vitamin C is sour.", ["C"])


def test_what_lies_inside_a_longer_mention_is_not_outside() -> None:
    text = "The Kyoto Protocol was made in Kyoto."
    kyoto, protocol = spans(text, ["Kyoto"]), spans(text, ["Kyoto Protocol"])
    assert outside(kyoto, protocol) == kyoto[1:]
    assert outside(protocol, kyoto) == protocol
