from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proponent.corpus import Chunk, Example, Query, TextEncoder
from proponent.corpus.encoding import _ranges
from proponent.errors import InputError

TEXTS = st.text(st.sampled_from("aeP ris\n,.Tokyäé😀漢\t"), max_size=60)
FILLED = TEXTS.filter(lambda text: bool(text.strip()))
in_any_tokenizer = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


def chunks(tokenizer: Any, text: str, max_length: int) -> list[Chunk]:
    return list(TextEncoder(tokenizer).chunks(Example("id", text, "here"), max_length))


def spoken(tokenizer: Any, ids: tuple[int, ...]) -> str:
    return str(tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=False))


def test_the_prefix_is_kept_and_the_closing_special_is_not(tokenizers: dict[str, Any]) -> None:
    prefixes = {name: TextEncoder(tokenizer).prefix for name, tokenizer in tokenizers.items()}
    assert prefixes == {
        "byte_level": (),
        "byte_level_prefix_space": (),
        "metaspace": (1,),
        "unigram": (1,),
    }
    (whole,) = chunks(tokenizers["metaspace"], "Paris is a city.", 50)
    with_specials = tokenizers["metaspace"]("Paris is a city.")["input_ids"]
    assert [*whole.tokens, 2] == with_specials


def test_a_passage_that_fits_is_one_chunk_with_its_own_id(tokenizer: Any) -> None:
    text = "  The capital of France is Paris.\n"
    (chunk,) = chunks(tokenizer, text, 64)
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    prefix = TextEncoder(tokenizer).prefix
    assert chunk == Chunk("id", text, (*prefix, *plain))
    assert chunks(tokenizer, text, len(chunk.tokens)) == [chunk]
    assert len(chunks(tokenizer, text, len(chunk.tokens) - 1)) == 2


def test_a_long_passage_by_hand(tokenizers: dict[str, Any]) -> None:
    """Ten tokens with room for four make three ranges of nearly equal length."""
    got = chunks(tokenizers["byte_level"], "The capital of France is Paris, and Tokyo.", 4)
    assert [(chunk.id, chunk.text) for chunk in got] == [
        ("id#0", "The capital of France"),
        ("id#1", " is Paris,"),
        ("id#2", " and Tokyo."),
    ]
    assert [spoken(tokenizers["byte_level"], chunk.tokens) for chunk in got] == [c.text for c in got]


@in_any_tokenizer
@given(TEXTS, st.integers(4, 12))
def test_chunks_are_the_passage_without_loss_or_overlap(tokenizer: Any, text: str, length: int) -> None:
    prefix = TextEncoder(tokenizer).prefix
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    got = chunks(tokenizer, text, length)
    if not text.strip() or len(prefix) + len(plain) < 2:
        assert got == []
        return
    assert "".join(chunk.text for chunk in got) == text
    assert [token for chunk in got for token in chunk.tokens[len(prefix) :]] == plain
    for chunk in got:
        assert chunk.tokens[: len(prefix)] == prefix
        assert 2 <= len(chunk.tokens) <= length
    if len(got) > 1:
        assert [chunk.id for chunk in got] == [f"id#{part}" for part in range(len(got))]


@given(st.lists(st.booleans(), min_size=4, max_size=60), st.integers(3, 9))
def test_ranges_cover_everything_within_bounds(whole: list[bool], body: int) -> None:
    ranges = list(_ranges(whole, body))
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(whole)
    assert all(first[1] == second[0] for first, second in pairwise(ranges))
    assert all(2 <= end - start <= body for start, end in ranges)
    for start, end in ranges[:-1]:
        assert whole[end] or not any(whole[start + 2 : end + 1])


def test_no_character_is_split_where_that_can_be_helped(tokenizers: dict[str, Any]) -> None:
    text = "😀 ä 漢 " * 8
    got = chunks(tokenizers["byte_level"], text, 12)
    assert len(got) > 4
    assert "\ufffd" not in "".join(spoken(tokenizers["byte_level"], chunk.tokens) for chunk in got)


@pytest.mark.parametrize("text", ["", "a", " \n\n\t "])
def test_nothing_to_predict_yields_nothing(tokenizers: dict[str, Any], text: str) -> None:
    assert chunks(tokenizers["byte_level"], text, 10) == []


def test_one_token_behind_a_prefix_is_something_to_predict(tokenizers: dict[str, Any]) -> None:
    (chunk,) = chunks(tokenizers["unigram"], " Paris", 10)
    assert len(chunk.tokens) == 2


def test_a_max_length_without_room_is_an_error(tokenizers: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="max-length of 3 tokens is too short; it must be at least 4"):
        chunks(tokenizers["metaspace"], "Paris", 3)


def sides(tokenizer: Any, prompt: str, target: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    encoded = TextEncoder(tokenizer).query(Query("q", prompt, target), 100)
    words = tokenizer.convert_ids_to_tokens(list(encoded.tokens))
    return tuple(words[: encoded.boundary]), tuple(words[encoded.boundary :])


def test_the_space_belongs_to_the_target(tokenizers: dict[str, Any]) -> None:
    prompt = ("The", "Ġcapital", "Ġof", "ĠFrance", "Ġis")
    byte_level = tokenizers["byte_level"]
    assert sides(byte_level, "The capital of France is", "Paris") == (prompt, ("ĠParis",))
    assert sides(byte_level, "The capital of France is ", "Paris") == (prompt, ("ĠParis",))
    assert sides(byte_level, "The capital of France is", " Paris") == (prompt, ("ĠParis",))
    assert sides(byte_level, "The capital of France is  ", "Paris") == (prompt, ("Ġ", "ĠParis"))


def test_whitespace_other_than_spaces_stays_in_the_prompt(tokenizers: dict[str, Any]) -> None:
    assert sides(tokenizers["byte_level"], "Paris is\n", "Tokyo") == (("Paris", "Ġis", "Ċ"), ("Tokyo",))
    assert sides(tokenizers["byte_level"], "Paris is", "\nTokyo") == (("Paris", "Ġis"), ("Ċ", "Tokyo"))


def test_a_merge_across_the_boundary_is_undone(tokenizers: dict[str, Any]) -> None:
    """The tokenizer writes two of the newlines as one token, and the boundary runs through it."""
    byte_level = tokenizers["byte_level"]
    assert "ĊĊ" in byte_level.tokenize("a\n\n\nb")
    assert sides(byte_level, "a\n", "\n\nb") == (("a", "Ċ"), ("Ċ", "Ċ", "b"))


def test_a_merge_with_the_space_is_undone(tokenizers: dict[str, Any]) -> None:
    """Here tokens run over words: `e▁is▁Par` would take the prompt's end into the target."""
    metaspace = tokenizers["metaspace"]
    assert "e▁is▁Par" in metaspace.tokenize("The capital of France is Paris")
    prompt, target = sides(metaspace, "The capital of France is", "Paris")
    assert "".join(prompt) == "<s>▁The▁capital▁of▁France▁is"
    assert "".join(target) == "▁Paris"


@in_any_tokenizer
@given(FILLED, FILLED)
def test_the_boundary_is_exact(tokenizer: Any, prompt: str, target: str) -> None:
    """Both sides speak their own text, and together the text that the tokenizer makes of the whole."""
    encoder = TextEncoder(tokenizer)
    try:
        encoded = encoder.query(Query("q", prompt, target, place="here"), 500)
    except InputError as error:
        # a run of unknown characters across the boundary is one token, and cannot be cut
        assert "here: prompt and target have no exact boundary" in str(error)  # noqa: PT017
        assert "<unk>" in tokenizer.tokenize(prompt + target)
        return
    kept = prompt.rstrip(" ")
    space = prompt[len(kept) :]
    if not space and not re.search(r"\s$", kept) and not re.match(r"\s", target):
        space = " "
    plain = tokenizer(kept, add_special_tokens=False)["input_ids"]
    whole = tokenizer(kept + space + target, add_special_tokens=False)["input_ids"]
    assert encoded.tokens[: encoded.boundary] == (*encoder.prefix, *plain)
    assert 1 <= encoded.boundary < len(encoded.tokens)
    assert spoken(tokenizer, encoded.tokens[len(encoder.prefix) :]) == spoken(tokenizer, whole)


@in_any_tokenizer
@given(FILLED, FILLED)
def test_byte_level_tokens_speak_each_side_to_the_letter(
    tokenizers: dict[str, Any], prompt: str, target: str
) -> None:
    tokenizer = tokenizers["byte_level"]
    encoded = TextEncoder(tokenizer).query(Query("q", prompt, target), 500)
    said_prompt = spoken(tokenizer, encoded.tokens[: encoded.boundary])
    said_target = spoken(tokenizer, encoded.tokens[encoded.boundary :])
    assert said_prompt == prompt.rstrip(" ")
    assert said_target.endswith(target)
    assert said_prompt + said_target in (prompt + target, f"{prompt} {target}")


@pytest.mark.parametrize(("prompt", "target", "side"), [("", "b", "prompt"), ("a", " \n", "target")])
def test_an_empty_side_is_an_error(tokenizers: dict[str, Any], prompt: str, target: str, side: str) -> None:
    with pytest.raises(InputError, match=f"line 4: the {side} is empty"):
        TextEncoder(tokenizers["unigram"]).query(Query("q", prompt, target, place="line 4"), 50)


def test_a_target_that_would_be_cut_off_is_an_error(tokenizers: dict[str, Any]) -> None:
    encoder = TextEncoder(tokenizers["byte_level"])
    query = Query("q", "The capital of France is", "Paris", place="line 4")
    assert len(encoder.query(query, 6).tokens) == 6
    message = "line 4: its target would be cut off: the query is 6 tokens long and max-length is 5"
    with pytest.raises(InputError, match=message):
        encoder.query(query, 5)


def test_a_tokenizer_that_is_not_fast_is_an_error() -> None:
    class SlowTokenizer:
        pass

    with pytest.raises(InputError, match="SlowTokenizer is not a fast tokenizer"):
        TextEncoder(SlowTokenizer())  # type: ignore[arg-type]


def test_the_fingerprint_is_of_the_encoding_not_of_its_use(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["byte_level"]
    before = TextEncoder(tokenizer).fingerprint()
    assert re.fullmatch(r"[0-9a-f]{64}", before)
    tokenizer("a text to cut", truncation=True, max_length=2)
    assert TextEncoder(tokenizer).fingerprint() == before
    assert len({TextEncoder(other).fingerprint() for other in tokenizers.values()}) == len(tokenizers)


def test_truncation_set_in_the_tokenizer_does_not_cut(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["byte_level"]
    tokenizer.backend_tokenizer.enable_truncation(3)
    try:
        (chunk,) = chunks(tokenizer, "The capital of France is Paris.", 50)
        assert len(chunk.tokens) == 7
    finally:
        tokenizer.backend_tokenizer.no_truncation()
