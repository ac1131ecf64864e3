"""Does a passage entail what a query says with its target?  A model of entailment judges, or a rule by names.

A long passage is judged in windows, and its best window counts: what is stated in one sentence is stated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from xxhash import xxh3_128_hexdigest

from proponent.corpus.example import Query
from proponent.corpus.fields import strings_of
from proponent.corpus.records import Record
from proponent.errors import InputError, first_line
from proponent.evaluate.aliases import outside, spans
from proponent.evaluate.sentences import sentences
from proponent.gradients.identity import fingerprint
from proponent.gradients.loading import quiet
from proponent.gradients.placement import pick_device

GOLD = 0.5  # a score above it is gold
BATCH = 16
LONGEST = 512  # tokens of premise and hypothesis
SPARE = 16  # tokens for special ones and the words of a template
# What a model that answers in words begins with, where the passage does and does not entail the statement.
YES, NO = ("1", "yes"), ("0", "no")


class Pair(NamedTuple):
    """A passage, or a window of it, and the query whose prompt and target it may entail."""

    premise: str
    query: Query

    @property
    def hypothesis(self) -> str:
        """The prompt and the target as one text."""
        return f"{self.query.prompt.rstrip()} {self.query.target.strip()}"


class Judge(Protocol):
    """Scores pairs.  name: for tables.  identity: changes with all that decides a score."""

    name: str
    identity: str

    def windows(self, pair: Pair) -> list[str]:
        """The parts of a passage that are scored apart; at least one."""

    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        """Scores in [0, 1] of windows with their queries; above ``GOLD``, one entails the statement."""


class Rule:
    """Not a model: 1 where a sentence has an alias of the subject and one of the object, else 0.

    A name inside the other's (Oxford in *University of Oxford*) is not a mention of its own.
    """

    name, identity = "rule", "rule-2"

    def windows(self, pair: Pair) -> list[str]:
        """The sentences of a passage."""
        return sentences(pair.premise) or [pair.premise]

    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        """1 or 0 of each pair; InputError for a query that names no subject (``entity0``)."""
        return [float(_both(pair)) for pair in pairs]


def _both(pair: Pair) -> bool:
    subject, target = (spans(pair.premise, names) for names in _names(pair.query))
    return bool(outside(subject, target) and outside(target, subject))


def _names(query: Query) -> tuple[list[str], list[str]]:
    """Names of a query's subject and of its object."""
    record = Record(dict(query.fields), query.place, 0)
    if not isinstance(subject := query.fields.get("entity0"), str):
        raise InputError(f"{query.place}: no field 'entity0'; the rule needs a fact's subject, or give --nli")
    ours, theirs = strings_of(record, "entity0_alias"), strings_of(record, "entity1_alias")
    return [subject, *ours], [query.target.strip(), *theirs]


class NliModel:
    """A Hugging Face model of natural language inference, by folder or hub id.

    Either a sequence classifier one of whose labels is called entailment, or a sequence-to-sequence model
    that answers ``premise: … hypothesis: …`` with 1 or yes where it is entailed (as TRUE's T5 does).
    Raises InputError where the model cannot be loaded, and where no label says entailment.
    """

    def __init__(self, name: str, device: str | None = None) -> None:
        self.name, where = name, pick_device(device)
        self._model, self._tokenizer = _loaded(name, where)
        config = self._model.config
        self._answers = bool(config.is_encoder_decoder and not hasattr(self._model, "classification_head"))
        self._label = None if self._answers else entailment_label(name, config.id2label)
        self._yes, self._no = self._beginnings(YES), self._beginnings(NO)
        if self._answers and set(self._yes) & set(self._no):
            raise InputError(f"model '{name}': its answers 1 and 0, or yes and no, begin with the same token")
        positions = getattr(config, "max_position_embeddings", LONGEST + 2) - 2  # RoBERTa leaves two unused
        self._longest = int(min(LONGEST, self._tokenizer.model_max_length, positions))
        self.identity = self._identity()

    def _identity(self) -> str:
        """Checksum of the weights, and of how texts are given and answers read."""
        weights = fingerprint(self._model, self._model.config.to_dict())
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        spelling = backend.to_str() if backend else sorted(self._tokenizer.get_vocab().items())
        how = (self._label, self._yes, self._no, self._longest, spelling)
        return xxh3_128_hexdigest(f"{weights} {how}".encode())

    def windows(self, pair: Pair) -> list[str]:
        """The whole passage if it fits the model, else runs of sentences that do, each half in the next."""
        room = self._longest - self._tokens(pair.hypothesis) - SPARE
        if room < SPARE:
            raise InputError(f"{pair.query.place}: the query leaves '{self.name}' no room for a passage")
        if self._tokens(pair.premise) <= room:
            return [pair.premise]
        parts = [part for sentence in sentences(pair.premise) for part in self._cut(sentence, room)]
        return list(_runs(parts, [self._tokens(part) + 1 for part in parts], room)) or [pair.premise]

    def _cut(self, sentence: str, room: int) -> Iterator[str]:
        """The sentence, or its halves as often as they are too long, cut at a space where there is one."""
        if self._tokens(sentence) <= room or len(sentence) < 2:
            yield sentence
            return
        middle = len(sentence) // 2
        space = sentence.find(" ", middle)
        at = space if space > 0 else middle
        for half in (sentence[:at], sentence[at:].lstrip()):
            yield from self._cut(half, room)

    def _tokens(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        """Probabilities of entailment, pairs of similar length together."""
        order = sorted(range(len(pairs)), key=lambda n: -len(pairs[n].premise))
        found = [0.0] * len(pairs)
        for start in range(0, len(order), BATCH):
            members = order[start : start + BATCH]
            for n, score in zip(members, self._scored([pairs[n] for n in members]).tolist(), strict=True):
                found[n] = score
        return found

    @torch.no_grad()
    def _scored(self, pairs: Sequence[Pair]) -> Tensor:
        """Scores [n] of one batch."""
        how = {"padding": True, "truncation": True, "max_length": self._longest, "return_tensors": "pt"}
        if self._answers:
            texts = [f"premise: {pair.premise} hypothesis: {pair.hypothesis}" for pair in pairs]
            given = self._tokenizer(texts, **how).to(self._model.device)
            begin = self._model.config.decoder_start_token_id
            first = torch.full((len(pairs), 1), begin, device=self._model.device)
            logits = self._model(**given, decoder_input_ids=first).logits[:, 0]
            yes, no = (logits[:, words].logsumexp(1) for words in (self._yes, self._no))
            found: Tensor = (yes - no).sigmoid()
            return found
        sides = [[pair.premise for pair in pairs], [pair.hypothesis for pair in pairs]]
        given = self._tokenizer(*sides, **{**how, "truncation": "only_first"}).to(self._model.device)
        scores: Tensor = self._model(**given).logits.float().softmax(-1)[:, self._label]
        return scores

    def _beginnings(self, words: Sequence[str]) -> list[int]:
        """First tokens of answers."""
        ids = (self._tokenizer(word, add_special_tokens=False)["input_ids"] for word in words)
        return sorted({found[0] for found in ids if found})


def entailment_label(name: str, labels: Mapping[int, str]) -> int:
    """Number of the label that means entailment, by its name; InputError where not exactly one does.

    ENTAILMENT, entailment and entails do; not_entailment and non-entailment do not.
    """
    found = [n for n, label in labels.items() if re.fullmatch(r"entail(s|ed|ment)?", str(label).lower())]
    if len(found) != 1:
        said = ", ".join(map(str, labels.values()))
        what = "more than one label" if found else "no label"
        raise InputError(f"model '{name}' has {what} that means entailment; its labels are: {said}")
    return int(found[0])


def _loaded(name: str, device: torch.device) -> tuple[Any, Any]:
    """The model, ready to judge, and its tokenizer."""
    from transformers import (
        AutoConfig,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    with quiet():
        try:
            config = AutoConfig.from_pretrained(name, trust_remote_code=False)
            written = any("ConditionalGeneration" in kind for kind in config.architectures or ())
            kind = AutoModelForSeq2SeqLM if written else AutoModelForSequenceClassification
            model, report = kind.from_pretrained(
                name, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        except Exception as error:  # whatever the libraries raise over a folder's content
            raise InputError(f"entailment model '{name}' cannot be loaded: {first_line(error)}") from error
    if tokenizer.pad_token_id is None:
        raise InputError(f"entailment model '{name}' has no padding token, which batches need; give another")
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])[0]
        raise InputError(
            f"entailment model '{name}' lacks weights, first {missing}; give one that was trained"
        )
    return model.eval().to(device), tokenizer


def _runs(parts: Sequence[str], lengths: Sequence[int], room: int) -> Iterator[str]:
    """Runs of parts of at most ``room`` tokens together, each beginning in the middle of the one before."""
    start = 0
    while start < len(parts):
        end, taken = start, 0
        while end < len(parts) and (end == start or taken + lengths[end] <= room):
            taken += lengths[end]
            end += 1
        yield " ".join(parts[start:end])
        if end == len(parts):
            return
        start += max(1, (end - start) // 2)
