from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from xxhash import xxh3_128

from proponent.corpus import Corpus, Example
from proponent.corpus.repeats import digest_of
from proponent.corpus.survey import part_of_sample
from proponent.errors import InputError


def of(*pairs: tuple[str, str]) -> Corpus:
    return Corpus.of([Example(id, text, f"place {n}") for n, (id, text) in enumerate(pairs)])


def test_passages_and_empty_ones_are_counted() -> None:
    survey = of(("a", "one"), ("b", ""), ("c", " \n\t"), ("d", "two")).survey()
    assert (survey.passages, survey.empty) == (4, 2)
    assert [example.id for example in survey.sample] == ["a", "d"]


def test_the_fingerprint_is_of_framed_ids_and_texts() -> None:
    def frame(text: str) -> bytes:
        return len(text.encode()).to_bytes(8, "little") + text.encode()

    by_hand = xxh3_128(frame("a") + frame("ä") + frame("b") + frame("x")).hexdigest()
    assert of(("a", "ä"), ("b", "x")).survey().fingerprint == by_hand


def test_the_fingerprint_tells_every_change() -> None:
    corpora = [
        of(("a", "xy"), ("b", "z")),
        of(("a", "x"), ("b", "yz")),
        of(("b", "z"), ("a", "xy")),
        of(("a", "xy"), ("c", "z")),
        of(("a", "xy")),
    ]
    assert len({corpus.survey().fingerprint for corpus in corpora}) == len(corpora)


def test_the_fingerprint_is_of_the_text_not_of_its_file(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}]
    one, two = tmp_path / "one.jsonl", tmp_path / "two.json"
    for path in (one, two):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert Corpus.read(one).survey() != Corpus.read(two).survey()  # the sample knows its places
    assert Corpus.read(one).survey().fingerprint == Corpus.read(two).survey().fingerprint


def test_the_sample_is_of_its_size_in_corpus_order_and_the_same_again() -> None:
    corpus = of(*((f"id{n}", "text") for n in range(500)))
    sample = corpus.survey(sample=50, seed=1).sample
    ordinals = [int(example.id[2:]) for example in sample]
    assert len(set(ordinals)) == 50
    assert ordinals == sorted(ordinals)
    assert sample == corpus.survey(sample=50, seed=1).sample
    assert sample != corpus.survey(sample=50, seed=2).sample
    assert corpus.survey(sample=0).sample == ()
    assert len(corpus.survey(sample=1000).sample) == 500


def test_the_sample_depends_on_ids_not_on_their_order() -> None:
    pairs = [(f"id{n}", "text") for n in range(200)]
    forwards = {example.id for example in of(*pairs).survey(sample=20).sample}
    backwards = {example.id for example in of(*reversed(pairs)).survey(sample=20).sample}
    assert forwards == backwards


def test_the_sample_is_uniform() -> None:
    """Over 300 seeds each of 40 passages is chosen about 75 times: 10 of 40, standard deviation 7.5."""
    corpus = of(*((f"id{n}", "text") for n in range(40)))
    chosen = Counter(example.id for seed in range(300) for example in corpus.survey(10, seed).sample)
    assert sum(chosen.values()) == 3000
    assert min(chosen.values()) > 75 - 4 * 7.5
    assert max(chosen.values()) < 75 + 4 * 7.5


def test_a_repeated_id_names_both_places() -> None:
    message = "place 2: the id 'a' was already given at place 0; ids must be unique"
    with pytest.raises(InputError, match=message):
        of(("a", "x"), ("b", "x"), ("a", "y")).survey()


def test_a_repeated_id_is_found_across_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "x"}\n')
    (tmp_path / "b.jsonl").write_text('{"id": "1", "text": "x"}\n')
    with pytest.raises(InputError, match=r"b\.jsonl:1: the id '1' was already given at .*a\.jsonl:1"):
        Corpus.read(f"{tmp_path}/*.jsonl").survey()


def test_a_corpus_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("\n")
    with pytest.raises(InputError, match=r"none\.jsonl: the corpus is empty"):
        Corpus.read(tmp_path / "none.jsonl").survey()
    with pytest.raises(InputError, match="all 2 passages are empty"):
        of(("a", ""), ("b", "\u00a0\n")).survey()


def test_ids_called_as_chunks_of_other_passages_are_told() -> None:
    ids = ["a", "a#0", "b#1", "b#x", "c", "c#", "d#2#3", "d#2", "#0", "e#\u00b2", "e"]
    survey = of(*((id, "text") for id in ids)).survey()
    assert survey.namesakes == {digest_of("a#0"), digest_of("d#2#3")}
    assert of(("a", "x"), ("b", "y")).survey().namesakes == frozenset()


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    corpus = of(*((f"id{n}", f"text {n}") for n in range(200)))
    largest = corpus.survey(sample=90, seed=3).sample
    for number in (1, 20, 89, 90):
        assert part_of_sample(largest, number, 3) == list(corpus.survey(sample=number, seed=3).sample)
    assert part_of_sample(largest, 500, 3) == list(largest)
