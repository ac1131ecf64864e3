"""What a model answers, cut out of what it goes on to say."""

from __future__ import annotations

import pytest

from proponent.evaluate.answers import answer_in, without_article


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" Paris.", "Paris"),
        (" Paris, the city", "Paris"),
        (" 1973 by the", "1973"),
        (" Paris\nThe capital", "Paris"),
        ("\n\n Paris", "Paris"),
        (" the University of Oxford in", "the University of Oxford"),
        (" a British composer who", "a British composer"),
        (" J. R. R. Tolkien. He", "J. R. R. Tolkien"),
        (" the U.S. Army. It", "the U.S. Army"),
        (" Ludwig van Beethoven (1770", "Ludwig van Beethoven"),
        (" city of London and", "city of London"),
        (" member of a band", "member"),
        (" in the field of physics", "in the field"),
        (" of the", ""),
        (" , which", ""),
        ("", ""),
    ],
)
def test_an_answer_is_a_word_or_a_name(text: str, answer: str) -> None:
    assert answer_in(text) == answer


@pytest.mark.parametrize(
    ("name", "plain"),
    [("the Hague", "Hague"), ("A  band", "band"), ("Theodore", "Theodore"), ("the", "the"), ("An", "An")],
)
def test_an_article_is_no_part_of_a_name(name: str, plain: str) -> None:
    assert without_article(name) == plain
