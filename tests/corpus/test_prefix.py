"""The special prefix: once before every text, and never scored."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from proponent.corpus import Chunk, Example, Query, TextEncoder
from proponent.pretraining.passages import BEGIN, TokenisedPassages, train_tokenizer

PROMPT, TARGET = "The capital of France is", "Paris"
LONG = "The capital of Japan is Tokyo, and Paris is in France."


@pytest.fixture(params=[0, 1, 2], ids=["no prefix", "one token", "two tokens"])
def encoder(request: pytest.FixtureRequest, tokenizers: dict[str, Any]) -> TextEncoder:
    """A byte-level tokenizer that puts so many special tokens before a text."""
    backend = Tokenizer.from_str(tokenizers["byte_level"].backend_tokenizer.to_str())
    specials = ["<s>", "</s>"][: request.param]
    backend.post_processor = processors.TemplateProcessing(
        single=" ".join([*specials, "$A"]), special_tokens=[(s, backend.token_to_id(s)) for s in specials]
    )
    return TextEncoder(PreTrainedTokenizerFast(tokenizer_object=backend))


def prefix_text(encoder: TextEncoder) -> str:
    return "".join(["<s>", "</s>"][: len(encoder.prefix)])


def chunks(encoder: TextEncoder, text: str, max_length: int = 64) -> list[Chunk]:
    return list(encoder.chunks(Example("id", text, "here"), max_length))


def test_scoring_starts_behind_the_prefix_and_never_at_the_first_token(encoder: TextEncoder) -> None:
    n = len(encoder.prefix)
    assert encoder.start == max(1, n)
    for length in (64, 8):
        for chunk in chunks(encoder, LONG, length):
            assert chunk.start == encoder.start
            assert chunk.tokens[:n] == encoder.prefix
            assert len(chunk.tokens) > chunk.start, "something is scored"


def test_a_text_that_begins_with_the_prefix_gets_no_second_one(encoder: TextEncoder) -> None:
    before = prefix_text(encoder)
    (plain,), (own,) = chunks(encoder, LONG), chunks(encoder, before + LONG)
    assert (own.tokens, own.start, own.text) == (plain.tokens, plain.start, before + LONG)
    assert encoder.passage(before + LONG, 9) == encoder.passage(LONG, 9) == plain.tokens[:9]
    assert encoder.prompt(before + PROMPT) == encoder.prompt(PROMPT)
    plain_query = encoder.query(Query("q", PROMPT, TARGET), 64)
    own_query = encoder.query(Query("q", before + PROMPT, TARGET), 64)
    assert (own_query.tokens, own_query.boundary) == (plain_query.tokens, plain_query.boundary)


def test_a_long_text_that_begins_with_the_prefix_is_cut_as_without(encoder: TextEncoder) -> None:
    before = prefix_text(encoder)
    plain, own = chunks(encoder, LONG, 8), chunks(encoder, before + LONG, 8)
    assert len(own) > 1
    assert [chunk.tokens for chunk in own] == [chunk.tokens for chunk in plain]
    assert "".join(chunk.text for chunk in own) == before + LONG


def test_passages_prompts_and_queries_agree(encoder: TextEncoder) -> None:
    """Each encodes a text alike, and scores from one place: a query its target, the others all text."""
    for before in ("", prefix_text(encoder)):
        text = before + PROMPT
        (chunk,) = chunks(encoder, text)
        query = encoder.query(Query("q", text, TARGET), 64)
        assert chunk.tokens == encoder.passage(text, 64) == encoder.prompt(text)
        assert query.tokens[: query.boundary] == chunk.tokens
        assert query.boundary >= encoder.start


def test_nothing_but_the_prefix_has_nothing_to_score(encoder: TextEncoder) -> None:
    assert chunks(encoder, prefix_text(encoder)) == []


def test_a_part_of_the_prefix_is_text(tokenizers: dict[str, Any], encoder: TextEncoder) -> None:
    if len(encoder.prefix) != 2:
        pytest.skip("a prefix of two tokens has parts")
    (chunk,) = chunks(encoder, "<s>" + PROMPT)
    assert chunk.tokens[:3] == (*encoder.prefix, encoder.prefix[0])
    assert chunk.start == 2


def test_pretraining_sees_the_same_tokens(tmp_path: Path) -> None:
    """Its loss leaves out the first token alone, so its prefix has to be one token, and once."""
    texts = [b + text for b, text in product(("", BEGIN), (PROMPT, LONG))]
    corpus = [Example(str(n), text, "here") for n, text in enumerate(texts)]
    tokenizer = train_tokenizer(corpus, 300)
    encoder = TextEncoder(tokenizer)
    assert encoder.start == len(encoder.prefix) == 1
    seen = TokenisedPassages.write(corpus, tokenizer, 64, tmp_path / "tokens")
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    for example, row in zip(corpus, seen, strict=True):
        assert row.tolist() == [*encoder.passage(example.text, 64), end]
        assert row.tolist().count(begin) == 1
