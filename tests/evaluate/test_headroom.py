"""Categories of passages by cases made by hand, their order, and agreement with labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.facts import fact_record

from proponent.corpus.facts import Fact, read_facts
from proponent.errors import InputError
from proponent.evaluate.gold import Triple, passage_triples
from proponent.evaluate.headroom import Category, Entities, agreement, categorise, statement_of

ADA = {
    **fact_record("f", ("Q1", "P1", "Q2"), ["gold"], "Ada Lovelace worked in", "field of work"),
    "entity0": "Ada Lovelace",
    "entity0_alias": ["Countess of Lovelace"],
    "entity1": "mathematics",
    "entity1_alias": ["maths"],
}
BOOLE = {
    **fact_record("g", ("Q3", "P1", "Q4"), [], "George Boole worked in", "field of work"),
    "entity0": "George Boole",
    "entity1": "logic",
    "entity1_alias": ["mathematical logic"],
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fact, ...]:
    return read(tmp_path_factory.mktemp("facts"), ADA, BOOLE)


def read(folder: Path, *records: dict[str, object]) -> tuple[Fact, ...]:
    path = folder / "facts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_facts(path)


SAME, OTHER = ("Q9", "P1", "Q2"), ("Q9", "P7", "Q8")  # the same of another subject; something else


@pytest.mark.parametrize(
    ("text", "triples", "category"),
    [
        ("She wrote about it.", [("Q1", "P1", "Q2")], Category.ENTAILED),
        ("Ada Lovelace learnt maths.", [OTHER], Category.BOTH),
        ("Ada Lovelace learnt it.", [SAME], Category.BOTH),  # the target as the triple's object
        ("She learnt maths.", [("Q9", "P7", "Q1")], Category.BOTH),  # the subject as a triple's object
        ("The countess of Lovelace learnt maths.", None, Category.BOTH),
        ("He worked in mathematics.", [SAME], Category.TARGET_RELATION),
        ("He worked in it.", [SAME], Category.TARGET_RELATION),
        ("He worked in logic, not maths.", [("Q9", "P1", "Q4")], Category.TARGET),
        ("He taught Mathematics.", [OTHER], Category.TARGET),
        ("He taught it.", [("Q2", "P7", "Q8")], Category.TARGET),  # the target as a triple's subject
        ("He taught maths.", None, Category.TARGET_NOT_KNOWN),
        ("Ada Lovelace was born.", [OTHER], Category.SUBJECT),
        ("Lovelace was born.", None, Category.SUBJECT),
        ("She worked in it.", [("Q1", "P1", "Q4")], Category.SUBJECT),  # before the relation
        ("the lovelaces of ada county", [OTHER], Category.NONE),  # no part: not whole words, no capital
        ("He worked in logic.", [("Q9", "P1", "Q4")], Category.RELATION),
        ("The aftermaths were dire.", [OTHER], Category.NONE),
        ("The weather is fine.", None, Category.NO_ENTITY_NOT_KNOWN),
    ],
)
def test_each_category(
    text: str, triples: list[Triple] | None, category: Category, facts: tuple[Fact, ...]
) -> None:
    assert categorise(text, triples, statement_of(facts[0])) == category


def test_a_judge_of_entailment_is_asked_about_what_is_not_annotated(facts: tuple[Fact, ...]) -> None:
    statement, text = statement_of(facts[0]), "Ada Lovelace worked in maths."
    assert categorise(text, None, statement, entailed=True) == Category.ENTAILED
    assert categorise(text, [OTHER], statement, entailed=True) == Category.BOTH


def test_categories_are_in_order_of_strength(facts: tuple[Fact, ...]) -> None:
    """Of a passage that loses one thing after the other, each category is weaker than the one before."""
    whole = ("Q1", "P1", "Q2")
    steps: list[tuple[str, list[Triple] | None]] = [
        ("Ada Lovelace, maths", [whole]),
        ("Ada Lovelace, maths", [SAME]),
        ("Lovelace, maths", [SAME]),
        ("Lovelace, maths", None),
        ("Lovelace, maths", [("Q9", "P1", "Q4")]),
        ("Lovelace", [("Q9", "P1", "Q4")]),
        ("", [("Q9", "P1", "Q4")]),
        ("", None),
        ("", [OTHER]),
    ]
    assert [categorise(*step, statement_of(facts[0])) for step in steps] == list(Category)


def test_the_target_inside_the_subjects_name_is_no_mention_of_it(tmp_path: Path) -> None:
    record = {**ADA, "entity0": "Kyoto Protocol", "entity0_alias": [], "entity1": "Kyoto"}
    (fact,) = read(tmp_path, {**record, "entity1_alias": []})
    statement = statement_of(fact)
    assert categorise("The Kyoto Protocol was signed.", [OTHER], statement) == Category.SUBJECT
    assert categorise("The Kyoto Protocol was signed in Kyoto.", [OTHER], statement) == Category.BOTH
    assert categorise("Kyoto is a city.", [OTHER], statement) == Category.TARGET


def test_an_answer_is_the_entity_that_is_called_so(facts: tuple[Fact, ...]) -> None:
    """Its URI is known, and its other names."""
    statement = statement_of(facts[0], "the Mathematical  logic", Entities(facts))
    assert statement.target.uris == {"Q4"}
    assert categorise("He studied logic.", [("Q9", "P1", "Q4")], statement) == Category.TARGET_RELATION
    assert categorise("He studied logic.", [SAME], statement) == Category.TARGET
    assert categorise("He studied it.", [("Q1", "P1", "Q4")], statement) == Category.ENTAILED


def test_an_answer_that_no_fact_names_is_known_by_its_name(facts: tuple[Fact, ...]) -> None:
    statement = statement_of(facts[0], "a botany", Entities(facts))
    assert (statement.target.names, statement.target.uris) == (("botany",), frozenset())
    assert categorise("He studied botany.", [("Q9", "P1", "Q5")], statement) == Category.TARGET_RELATION
    assert categorise("He studied botany.", [OTHER], statement) == Category.TARGET
    assert categorise("Ada Lovelace studied botany.", [("Q1", "P1", "Q5")], statement) == Category.BOTH
    assert categorise("He studied.", [("Q9", "P1", "Q5")], statement) == Category.RELATION


def test_triples_are_of_the_facts_and_of_a_sentences_file(tmp_path: Path, facts: tuple[Fact, ...]) -> None:
    assert passage_triples(facts) == {"gold": {("Q1", "P1", "Q2")}}
    path = tmp_path / "sentences.jsonl"
    lines = [("gold", [list(OTHER)]), ("more", [list(SAME), list(OTHER)]), ("none", [])]
    path.write_text("".join(json.dumps({"sentence_id": i, "fact_triples": t}) + "\n" for i, t in lines))
    assert passage_triples(facts, path) == {"gold": {("Q1", "P1", "Q2"), OTHER}, "more": {SAME, OTHER}}
    path.write_text(json.dumps({"sentence_id": "s", "fact_triples": [["Q1", "P1"]]}))
    with pytest.raises(
        InputError, match=r"sentences.jsonl:1: the list 'fact_triples' must hold lists of three"
    ):
        passage_triples(facts, path)


def test_agreement_by_hand() -> None:
    found = agreement(["a", "a", "b", "b"], ["a", "a", "a", "b"])
    assert found.accuracy == 0.75
    assert found.kappa == pytest.approx((0.75 - 0.5) / (1 - 0.5))  # chance: ½·¾ + ½·¼
    assert found.confusion == {("a", "a"): 2, ("b", "a"): 1, ("b", "b"): 1}
    assert agreement(["a"], ["a"]).kappa == 1.0
    assert agreement(["a", "b"], ["b", "a"]).kappa == -1.0
    with pytest.raises(ValueError, match="no labels"):
        agreement([], [])
