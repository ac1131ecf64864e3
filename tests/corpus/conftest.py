"""Tokenizers of the kinds that language models have, trained in a moment."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TRAINING = [
    "The capital of France is Paris.",
    "The capital of Japan is Tokyo, and Paris is in France.",
    "Bud Scott plays guitar; she plays the piano.\nParis is a city.\n\nTokyo is a city, too.\n\n\n",
    "0 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n o p q r s t u v w x y z",
] * 4
SPECIAL = ["<unk>", "<s>", "</s>"]


def _fast(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def byte_level(add_prefix_space: bool = False) -> PreTrainedTokenizerFast:
    """As GPT-2 and most models since: bytes, no beginning-of-text token."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TRAINING, trainer)
    return _fast(backend)


def _wrap(backend: Tokenizer) -> None:
    """Put a beginning-of-text token before and an end-of-text token behind, as Llama and T5 do."""
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )


def metaspace() -> PreTrainedTokenizerFast:
    """As Llama 2: a space is put before every text, merges run across words, unknown characters as bytes."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=[*SPECIAL, *byte_tokens], show_progress=False, max_token_length=12
    )
    backend.train_from_iterator(TRAINING, trainer)
    # Byte tokens that are special would be left out of a decoded text.
    plain = Tokenizer.from_str(backend.to_str())
    _wrap(plain)
    return _fast(plain)


def unigram() -> PreTrainedTokenizerFast:
    """As T5 and XLNet: a unigram model on words with their leading space."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(TRAINING, trainer)
    _wrap(backend)
    return _fast(backend)


MAKERS = {
    "byte_level": byte_level,
    "byte_level_prefix_space": lambda: byte_level(add_prefix_space=True),
    "metaspace": metaspace,
    "unigram": unigram,
}


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    return {name: make() for name, make in MAKERS.items()}


@pytest.fixture(scope="session", params=list(MAKERS))
def tokenizer(
    request: pytest.FixtureRequest, tokenizers: dict[str, PreTrainedTokenizerFast]
) -> PreTrainedTokenizerFast:
    return tokenizers[request.param]
