"""Who says that a passage entails a statement: models of several kinds, and the rule."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models import byte_tokenizer
from transformers import BertConfig, BertForSequenceClassification, T5Config, T5ForConditionalGeneration

from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.evaluate.entailment import NliModel, Pair, Rule, entailment_label
from proponent.evaluate.sentences import sentences

ROBERTA = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
DEBERTA = {0: "entailment", 1: "neutral", 2: "contradiction"}
PARIS = {"entity0": "France", "entity0_alias": ["French Republic"], "entity1_alias": ["City of Light"]}
CAPITAL = Query("q", "The capital of France is", "Paris", PARIS)
TEXTS = [
    "Paris is the capital of France.",
    "Cats sleep.",
    "A somewhat longer text, which says nothing of all that.",
]


def classifier(folder: Path, labels: dict[int, str]) -> str:
    """A small random sequence classifier of up to 120 byte tokens."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = "<s>"
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=122,
        id2label=labels,
        label2id={label: n for n, label in labels.items()},
        pad_token_id=0,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    return str(folder)


def answerer(folder: Path) -> str:
    """A small random T5 that answers in byte tokens."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(with_bos=False)
    tokenizer.pad_token = "<s>"
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (ROBERTA, 2),
        (DEBERTA, 0),
        ({0: "entailment", 1: "not_entailment"}, 0),
        ({0: "not_entailment", 1: "entails"}, 1),
    ],
)
def test_the_label_of_entailment_is_found_by_its_name(labels: dict[int, str], expected: int) -> None:
    assert entailment_label("m", labels) == expected


@pytest.mark.parametrize("labels", [{0: "LABEL_0", 1: "LABEL_1"}, {0: "entailment", 1: "entailed"}, {}])
def test_labels_that_do_not_say_it_are_named(labels: dict[int, str]) -> None:
    with pytest.raises(InputError, match=r"model 'm' has .* label that means entailment; its "):
        entailment_label("m", labels)


@pytest.mark.parametrize("labels", [ROBERTA, DEBERTA])
def test_scores_are_the_probability_of_that_label_whatever_the_batch(
    labels: dict[int, str], tmp_path: Path
) -> None:
    judge = NliModel(classifier(tmp_path, labels), "cpu")
    pairs = [Pair(text, CAPITAL) for text in TEXTS]
    together = judge.scores(pairs)
    assert together == pytest.approx([judge.scores([pair])[0] for pair in pairs], abs=1e-5)
    model = BertForSequenceClassification.from_pretrained(tmp_path).eval()
    given = judge._tokenizer(TEXTS[0], "The capital of France is Paris", return_tensors="pt")
    wanted = model(**given).logits.softmax(-1)[0, entailment_label("m", labels)]
    assert together[0] == pytest.approx(wanted.item(), abs=1e-5)
    assert len(set(together)) == 3


def test_a_model_that_answers_in_words(tmp_path: Path) -> None:
    judge = NliModel(answerer(tmp_path), "cpu")
    pairs = [Pair(text, CAPITAL) for text in TEXTS]
    together = judge.scores(pairs)
    assert together == pytest.approx([judge.scores([pair])[0] for pair in pairs], abs=1e-5)
    model = T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    text = f"premise: {TEXTS[0]} hypothesis: The capital of France is Paris"
    given = judge._tokenizer(text, return_tensors="pt")
    likely = model(**given, decoder_input_ids=torch.zeros(1, 1, dtype=torch.long)).logits[0, 0].softmax(-1)
    ids = {word: judge._tokenizer.convert_tokens_to_ids(word[0]) for word in ("1", "yes", "0", "no")}
    yes, no = likely[ids["1"]] + likely[ids["yes"]], likely[ids["0"]] + likely[ids["no"]]
    assert together[0] == pytest.approx((yes / (yes + no)).item(), abs=1e-5)


def test_a_long_passage_is_judged_in_windows_that_fit_and_overlap(tmp_path: Path) -> None:
    judge = NliModel(classifier(tmp_path, ROBERTA), "cpu")
    text = " ".join(f"Sentence number {n} is here." for n in range(12)) + " " + "word " * 60
    windows = judge.windows(Pair(text, CAPITAL))
    room = judge._longest - judge._tokens(Pair(text, CAPITAL).hypothesis)
    assert len(windows) > 4
    assert all(judge._tokens(window) <= room for window in windows)
    for n in range(12):
        assert any(f"Sentence number {n} is here." in window for window in windows)
    assert any("number 1 " in window and "number 2 " in window for window in windows)
    assert judge.windows(Pair("A short one.", CAPITAL)) == ["A short one."]
    unbroken = judge.windows(Pair("x" * 500, CAPITAL))
    assert len(unbroken) > 4
    assert all(judge._tokens(window) <= room for window in unbroken)


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"entailment model '.*' cannot be loaded: "):
        NliModel(str(tmp_path), "cpu")
    with pytest.raises(InputError, match="has no label that means entailment"):
        NliModel(classifier(tmp_path, {0: "good", 1: "bad"}), "cpu")
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no padding token"):
        NliModel(str(tmp_path), "cpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Paris is the capital of France.", 1.0),
        ("The City of Light lies in the French Republic.", 1.0),
        ("Paris is large. France is larger.", 0.0),  # not in one sentence
        ("Parisians love France.", 0.0),  # not as a whole word
        ("Paris is a city.", 0.0),
        ("The Paris of France, a book, is old.", 1.0),
        ("", 0.0),
    ],
)
def test_the_rule(text: str, expected: float) -> None:
    rule, pair = Rule(), Pair(text, CAPITAL)
    scores = rule.scores([Pair(window, CAPITAL) for window in rule.windows(pair)])
    assert max(scores) == expected


def test_the_rule_wants_two_mentions() -> None:
    """A name inside the other's is none of its own."""
    query = Query("q", "The University of Oxford is in", "Oxford", {"entity0": "University of Oxford"})
    assert Rule().scores([Pair("The University of Oxford is old.", query)]) == [0.0]
    assert Rule().scores([Pair("The University of Oxford is in Oxford.", query)]) == [1.0]


def test_another_label_is_another_judge(tmp_path: Path) -> None:
    one, other = (NliModel(classifier(tmp_path / n, m), "cpu") for n, m in (("a", ROBERTA), ("b", DEBERTA)))
    same = NliModel(classifier(tmp_path / "c", ROBERTA), "cpu")
    assert one.identity == same.identity != other.identity


def test_the_rule_needs_a_subject() -> None:
    with pytest.raises(InputError, match="no field 'entity0'; the rule needs a fact's subject, or give"):
        Rule().scores([Pair("a", Query("q", "a", "b"))])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("He met J. Smith in St. Louis. They left.", ["He met J. Smith in St. Louis.", "They left."]),
        ('She said "No." Then she left.', ['She said "No."', "Then she left."]),
        (
            "It costs 3.50 e.g. in Bern.\nNext line",
            ["It costs 3.50 e.g. in Bern.", "Next line"],
        ),
        ("In the U.S. Army on Jan. 5. It rained.", ["In the U.S. Army on Jan. 5.", "It rained."]),
        (" \n ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected
