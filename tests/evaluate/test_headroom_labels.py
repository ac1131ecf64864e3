"""Categories of headroom beside the labels that a person gave a hundred passages after reading them."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
from benchmarks.sample_facts import choose_facts

from proponent.corpus.facts import read_facts
from proponent.corpus.sources import read_records
from proponent.evaluate.gold import passage_triples
from proponent.evaluate.headroom import Category, Entities, agreement, categorise, statement_of

LABELS = Path(__file__).with_name("headroom_labels.csv")
# What cannot be told apart in passages without annotations.
MERGED = {
    **dict.fromkeys((Category.TARGET_RELATION, Category.TARGET, Category.TARGET_NOT_KNOWN), "target"),
    **dict.fromkeys((Category.RELATION, Category.NONE, Category.NO_ENTITY_NOT_KNOWN), "no entity"),
}


@pytest.fixture(scope="module")
def pairs(shared_dir: Path) -> list[tuple[Category, Category]]:
    """(label, category) of the labelled passages that are whole, by query and passage."""
    with LABELS.open(newline="") as file:
        labels = [row for row in csv.DictReader(file) if "#" not in row["passage"]]
    wanted = {row["passage"] for row in labels}
    trex, c4 = shared_dir / "trex", f"{shared_dir}/c4/*.json.gz"
    texts = {
        r.fields["sentence_id"]: r.fields["text"]
        for _, r in read_records(trex / "sentences.jsonl.gz")
        if r.fields["sentence_id"] in wanted
    }
    texts |= {f"{source.name}:{r.number}": r.fields["text"] for source, r in read_records(c4)}
    sampled = choose_facts(
        [r.fields for _, r in read_records(trex / "facts.jsonl.gz")], 400, 8, random.Random(0)
    )
    ids = {fact["fact_id"] for fact in sampled}
    facts = {fact.fact_id: fact for fact in read_facts(trex / "facts.jsonl.gz") if fact.fact_id in ids}
    triples = passage_triples(facts.values(), trex / "sentences.jsonl.gz")
    entities = Entities(facts.values())
    return [
        (
            Category(row["label"]),
            categorise(
                texts[row["passage"]],
                triples.get(row["passage"]),
                statement_of(facts[row["query"]], row["answer"] or None, entities),
            ),
        )
        for row in labels
    ]


def test_labels_and_annotations_agree_as_the_page_says(pairs: list[tuple[Category, Category]]) -> None:
    """Most that differ are annotated with a relation that the sentence does not put into words."""
    known = [(label, found) for label, found in pairs if not found.endswith("not known")]
    compared = agreement(*zip(*known, strict=True))
    assert len(known) == 78
    assert compared.accuracy == pytest.approx(0.65, abs=0.005)
    assert compared.kappa == pytest.approx(0.60, abs=0.005)
    assert compared.confusion[Category.BOTH, Category.ENTAILED] == 8
    assert compared.confusion[Category.NONE, Category.RELATION] == 7


def test_what_names_alone_can_tell_agrees_better(pairs: list[tuple[Category, Category]]) -> None:
    merged = [(MERGED.get(label, label), MERGED.get(found, found)) for label, found in pairs]
    compared = agreement(*zip(*merged, strict=True))
    assert compared.accuracy > 0.8
    assert compared.kappa > 0.75
