"""Continuations against all that a model could say, and against the probabilities of its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tests.models import byte_tokenizer, make_model, tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from proponent.attribute.continuations import PASSES, Continuer
from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.gradients.model import LanguageModel, load_model
from proponent.progress import Advance, Silent

# "Ġ" is the leading space of a byte-level vocabulary; pieces without it go on with a word.
WORDS = [
    "Ġthe",
    "Ġred",
    "ĠPort",
    "ĠLouis",
    "ĠRo",
    "me",
    "Ġis",
    ".",
    ",",
    "'s",
    "-",
    "Ġ",
    "The",
    "s",
    "ĠF",
]
PROMPT = "The red"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A tiny random model whose vocabulary is words and pieces of words."""
    folder = make_model(tmp_path_factory.mktemp("words"), vocab_size=len(WORDS) + 2)
    vocabulary = {"<s>": 0, **{word: n + 1 for n, word in enumerate(WORDS)}, "<pad>": len(WORDS) + 1}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>")
    fast.save_pretrained(folder)
    return load_model(str(folder), device="cpu")


@torch.no_grad()
def after(model: LanguageModel, tokens: list[int]) -> torch.Tensor:
    """Probabilities of the next token, by the model's own forward."""
    return model.causal(input_ids=torch.tensor([tokens])).logits[0, -1].double().softmax(-1)


def everything(model: LanguageModel, longest: int) -> dict[str, float]:
    """All continuations of up to so many tokens, by hand from the words above."""
    texts = ["", *(word.replace("Ġ", " ") for word in WORDS), ""]
    found: dict[str, float] = {}

    def follow(ids: list[int], text: str, p: float) -> None:
        following = after(model, [*model.encoder.prompt(PROMPT), *ids])
        for token, piece in enumerate(texts):
            bare = piece.strip()
            if not text:
                goes_on, ends = piece.startswith(" "), False
            elif not text.strip():
                goes_on, ends = bool(piece) and not piece.startswith(" "), False
            else:
                *before, last = text.split()
                initial = before and len(last) == 1 and last.isupper()
                name = last[0].isupper() and piece.startswith(" ") and bare[:1].isupper()
                goes_on = name or piece in ("me", "'s", "-", "The", "s") or bool(initial and piece == ".")
                ends = not goes_on
            if ends:
                found[text.strip()] = found.get(text.strip(), 0.0) + p * float(following[token])
            elif goes_on and len(ids) < longest:
                follow([*ids, token], text + piece, p * float(following[token]))

    follow([], "", 1.0)
    return found


def test_the_likeliest_of_all_are_found(model: LanguageModel) -> None:
    found = Continuer(model)(PROMPT, 6, 48)
    expected = sorted(everything(model, 3).items(), key=lambda item: -item[1])[:6]
    assert [one.text for one in found] == [text for text, _ in expected]
    for one, (_, p) in zip(found, expected, strict=True):
        # longer spellings of the same text add next to nothing
        assert one.probability == pytest.approx(p, rel=1e-3)
        assert one.probability >= p * (1 - 1e-6)


def test_names_are_whole(model: LanguageModel) -> None:
    """Words with a capital that follow one another are one name, and are so to the probabilities."""
    texts = {one.text for one in Continuer(model)(PROMPT, 20, 48)}
    assert any(" " in text for text in texts), texts
    assert all(word[0].isupper() for text in texts if " " in text for word in text.split()[1:]), texts


def test_a_probability_is_that_of_the_target_and_a_word_after_it(tmp_path: Path) -> None:
    """With the query's own encoding: what is shown is what is traced."""
    model = tiny_model(tmp_path / "bytes")
    # one token a byte: bytes beyond ASCII may be letters, the rest of the vocabulary is no text
    ascii = {chr(c): byte_tokenizer(False)(chr(c)).input_ids[0] for c in range(128)}
    ends = [token for letter, token in ascii.items() if not (letter.isalnum() or letter in "-'_")]
    ends += [0, *range(257, model.vocabulary)]
    for one in Continuer(model)("The capital of France is", 4, 48):
        encoded = model.encoder.query(Query("q", "The capital of France is", one.text), 48)
        tokens, p = list(encoded.tokens), 1.0
        for place in range(encoded.boundary, len(tokens)):
            p *= float(after(model, tokens[:place])[tokens[place]])
        assert one.probability == pytest.approx(p * float(after(model, tokens)[ends].sum()), rel=1e-4)


@pytest.mark.slow  # all that the model may say in four words, by hand
def test_an_initial_keeps_its_dot_within_a_name(model: LanguageModel) -> None:
    everything_said = everything(model, 4)
    assert "Port F. Louis" in everything_said, "the definition by hand has such names"
    found = {one.text: one.probability for one in Continuer(model)(PROMPT, 400, 48)}
    names = [text for text in found if " F." in text]
    assert names
    assert "F." not in found, "a lone letter is no initial: it may be a symbol at the end of a sentence"
    for text in names:
        if text in everything_said:
            assert found[text] == pytest.approx(everything_said[text], rel=1e-6)


def test_trailing_spaces_change_nothing(model: LanguageModel) -> None:
    ask = Continuer(model)
    assert ask(PROMPT + "  ", 5, 48) == ask(PROMPT, 5, 48)


def test_a_search_of_a_flat_distribution_ends(tmp_path: Path) -> None:
    told = []

    class Counting(Silent):
        @contextmanager
        def stage(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
            yield lambda units, tokens=0: told.append(units)

    found = Continuer(tiny_model(tmp_path / "flat"))("Some text", 20, 48, Counting())
    assert len(told) <= PASSES
    assert len(found) == 20
    assert sum(one.probability for one in found) <= 1


@pytest.mark.parametrize(
    ("prompt", "words"),
    [("", "the prompt is empty"), (" \n", "the prompt is empty"), ("The red" * 9, "tokens long; the run's")],
)
def test_prompts_that_cannot_be_continued(prompt: str, words: str, model: LanguageModel) -> None:
    with pytest.raises(InputError, match=words):
        Continuer(model)(prompt, 3, 8)
