"""What a model would most likely say after a prompt: whole words and names, with their probabilities."""

from __future__ import annotations

import heapq
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from proponent.errors import InputError
from proponent.gradients.backprop import Batch
from proponent.gradients.lanes import plain_batches
from proponent.gradients.model import LanguageModel
from proponent.progress import Progress, Silent

# A search ends after so many passes of so many rows, with what it has found by then; the words of a
# model that knows what to say are found in two or three.
PASSES, ROWS = 24, 16
LONGEST = 16  # tokens of a continuation
BRANCHES = 32  # tokens that a beginning is followed up with
JOINERS = "-‐‑'’_\ufffd"  # with letters, digits and their marks: what does not end a word
# The probability of a beginning, negative so that the likeliest is a heap's first, and its token ids.
Beginning = tuple[float, tuple[int, ...]]


@dataclass(frozen=True)
class Continuation:
    """A word or a name that may follow a prompt.

    text: without the space before it.  probability: that the model says exactly this and then begins
    another word, in [0, 1]; those of all continuations sum to 1 at most.
    """

    text: str
    probability: float


class Continuer:
    """A model ready to tell the likeliest continuations of prompts.

    A continuation is a word; words that begin with a capital and follow one another are one name, in
    which an initial keeps its dot.  It begins with a space unless the prompt ends with other whitespace,
    as a query's target does.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        texts = model.encoder.continued([[n] for n in range(model.vocabulary)])
        # [v]; the text of a special token is empty
        self._inside = torch.tensor([bool(text) and not text[0].isspace() for text in texts])
        self._opening = torch.tensor([text[:1] == " " and not text[1:2].isspace() for text in texts])
        self._joining = torch.tensor([bool(text) and _joins(text[0]) for text in texts])
        self._dot = torch.tensor([text == "." for text in texts])
        self._capital = torch.tensor([text[:1] == " " and text[1:2].isupper() for text in texts])

    def __call__(
        self, prompt: str, count: int, max_length: int, progress: Progress | None = None
    ) -> list[Continuation]:
        """The ``count`` likeliest continuations of a prompt, likeliest first; fewer where the search ends.

        Beginnings are followed up from the likeliest down, each with its ``BRANCHES`` likeliest tokens,
        until none could be likelier than what was found, or ``PASSES`` passes were made.
        progress: counts the passes; an error that its ``advance`` raises ends the search.
        Raises InputError for a prompt that is empty or leaves no room in max_length tokens.
        """
        tokens = self._prompt(prompt, max_length)
        found: dict[str, float] = {}
        open_: list[Beginning] = [(-1.0, ())]
        with (progress or Silent()).stage("asking the model", PASSES, "passes") as advance:
            for _ in range(PASSES):
                least = sorted(found.values(), reverse=True)[count - 1] if len(found) >= count else 0.0
                group = [heapq.heappop(open_) for _ in range(min(ROWS, len(open_))) if -open_[0][0] > least]
                if not group:
                    break
                following = self._following([(*tokens, *ids) for _, ids in group])
                texts = self.model.encoder.continued([ids for _, ids in group])
                for (p, ids), text, after in zip(group, texts, following, strict=True):
                    ends, goes_on = self._masks(text, blank_before=prompt.rstrip(" ")[-1:].isspace())
                    if text.strip() and text.strip().isprintable() and "\ufffd" not in text:
                        word = text.strip()
                        found[word] = found.get(word, 0.0) - p * float(after[ends].sum())
                    if len(ids) < LONGEST:
                        top = (after * goes_on).topk(min(BRANCHES, len(after)))
                        for value, token in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                            heapq.heappush(open_, (p * value, (*ids, token)))
                advance(1)
        best = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:count]
        return [Continuation(text, p) for text, p in best if p > 0]

    def _prompt(self, prompt: str, max_length: int) -> tuple[int, ...]:
        if not prompt.strip():
            raise InputError("the prompt is empty; write the beginning of a sentence")
        tokens = self.model.encoder.prompt(prompt)
        if not 1 <= len(tokens) < max_length:
            raise InputError(
                f"the prompt is {len(tokens)} tokens long; the run's max-length of {max_length} leaves room "
                f"for 1 to {max_length - 1}"
            )
        return tokens

    def _masks(self, text: str, blank_before: bool) -> tuple[Tensor, Tensor]:
        """Which tokens [v] end a beginning, and which it goes on with."""
        if not text.strip():
            begins = self._inside if text or blank_before else self._opening
            return torch.zeros_like(begins), begins
        *before, last = text.split()
        joins = self._joining | self._capital if last[0].isupper() else self._joining
        if before and len(last) == 1 and last.isupper():
            joins = joins | self._dot
        return ~joins, joins

    @torch.no_grad()
    def _following(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Probabilities [n, v] of the token after each row, float64."""
        following = torch.empty(len(rows), self.model.vocabulary, dtype=torch.float64)
        for members in plain_batches(self.model, [len(row) for row in rows], sum(map(len, rows))):
            batch = Batch.of([rows[n] for n in members], [len(rows[n]) for n in members])
            hidden = self.model.hidden(batch.tokens.to(self.model.device))
            last = hidden[torch.arange(len(members)), [len(rows[n]) - 1 for n in members]]  # [m, h]
            following[members] = self.model.logits(last).double().softmax(-1).cpu()
        return following


def _joins(letter: str) -> bool:
    """Whether a character that follows a word without a space belongs to it."""
    return letter.isalnum() or letter in JOINERS or unicodedata.category(letter)[0] == "M"
