"""Text to token ids: passages cut to the model's length, queries with an exact boundary.

The rules, all independent of the model:

- The special tokens that the tokenizer puts before a text (a beginning-of-text token) are put before every
  chunk that does not begin with them, and are not scored; those that it puts behind are left out.
- A long passage is encoded once and its tokens are cut into parts of nearly equal length: at unit norm, a
  short rest would weigh as much as the others.
- Prompt and target are joined by one space, unless either already has whitespace there, and the space
  belongs to the target, as tokenizers of words with their leading space have it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import accumulate, pairwise
from math import ceil
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from proponent.corpus.example import Chunk, EncodedQuery, Example, Query
from proponent.corpus.queries import require_both_sides
from proponent.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MIN_BODY = 3  # tokens of text in a chunk, so that any longer text divides into chunks of at least two
PROBES = ("a", "0", "e", "1", ".")  # texts to see what is put before a text; one of them should be known
ANCHORS = ("\n", "a", ".", "0", "x")  # what a target is put behind, to be encoded as a continuation


class TextEncoder:
    """Encodes passages and queries with a fast Hugging Face tokenizer.

    prefix: ids of the special tokens put before a text; often one or none.
    start: index of a text's first token that is scored: the first behind the prefix, at least 1.
    known: number of token ids that the model has, from 0; None for all that the tokenizer has.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, known: int | None = None) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            found = f"{type(tokenizer).__name__} is not a fast tokenizer: character offsets are needed"
            raise InputError(f"{found}; save the model with its tokenizer.json")
        # A copy of our own: the settings of truncation and padding change with every use of the original.
        self._tokenizer = Tokenizer.from_str(backend.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._known = known
        self.prefix = self._find_prefix()
        self.start = max(1, len(self.prefix))

    def fingerprint(self) -> str:
        """Sha256 of everything that decides how text is encoded, as hexadecimal digits."""
        settings = json.loads(self._tokenizer.to_str())
        return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def chunks(self, example: Example, max_length: int) -> Iterator[Chunk]:
        """The passage as one chunk, or as several where it is longer than max_length tokens.

        The texts of the chunks, joined, are the passage.
        Yields nothing for a passage that is empty or has no token to score.
        Raises InputError where max_length leaves too little room for text, and for an unknown token.
        """
        return (chunk for chunk, _ in self._cut(example, max_length))

    def spelled(self, example: Example, max_length: int) -> Iterator[tuple[Chunk, list[str]]]:
        """The chunks, each with the part of its text that each of its tokens adds; joined, they are the text.

        A token of the special prefix adds '', and so does one that only goes on with a character of several
        bytes.  Errors as of ``chunks``.
        """
        for chunk, ends in self._cut(example, max_length):
            reach = list(accumulate(ends, max, initial=0))
            reach[-1] = len(chunk.text)
            parts = [chunk.text[start:end] for start, end in pairwise(reach)]
            yield chunk, [""] * (len(chunk.tokens) - len(parts)) + parts

    def _cut(self, example: Example, max_length: int) -> Iterator[tuple[Chunk, Sequence[int]]]:
        """The chunks, each with the character of its text at which each token behind the prefix ends."""
        body = max_length - len(self.prefix)
        if body < MIN_BODY:
            least = len(self.prefix) + MIN_BODY
            raise InputError(f"a max-length of {max_length} tokens is too short; it must be at least {least}")
        encoding = self._tokenizer.encode(example.text, add_special_tokens=False)
        self._require_known(encoding.ids, example.place)
        own = len(self.prefix) if self._prefixed(encoding.ids) == tuple(encoding.ids) else 0
        ids, offsets = encoding.ids[own:], encoding.offsets[own:]
        if example.empty or len(self.prefix) + len(ids) <= self.start:
            return
        if len(ids) <= body:
            chunk = Chunk(example.id, example.text, (*self.prefix, *ids), self.start)
            yield chunk, [end for _, end in offsets]
            return
        # reach[k]: characters covered by the tokens before the k-th
        reach = list(accumulate((end for _, end in offsets), max, initial=0))
        whole = [covered <= start for covered, (start, _) in zip(reach, offsets, strict=False)]
        reach[-1] = len(example.text)
        for part, (start, end) in enumerate(_ranges(whole, body)):
            text = example.text[reach[start] : reach[end]]
            tokens = self._prefixed(ids[start:end])
            ends = [reached - reach[start] for reached in reach[start + 1 : end + 1]]
            yield Chunk(f"{example.id}#{part}", text, tokens, self.start), ends

    def passage(self, text: str, max_length: int) -> tuple[int, ...]:
        """A text's first max_length tokens, special prefix included; those from ``start`` on are scored."""
        return self._prefixed(self._plain(text))[:max_length]

    def prompt(self, text: str) -> tuple[int, ...]:
        """Token ids of a prompt as a query has them: without trailing spaces, which belong to the target."""
        tokens = self._prefixed(self._plain(text.rstrip(" ")))
        self._require_known(tokens, "the prompt")
        return tokens

    def continued(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """What each row of token ids adds to a text that it follows, its leading space included.

        Special tokens add nothing; bytes that are not yet a character add a replacement character.
        """
        anchor = next((ids for ids in map(self._plain, ANCHORS) if ids), [])
        before = self.decode(anchor)
        texts = self._tokenizer.decode_batch([[*anchor, *row] for row in rows], skip_special_tokens=True)
        return [text.removeprefix(before) for text in texts]

    def decode(self, ids: list[int], special: bool = False) -> str:
        """The text of token ids; special: whether that of special tokens as well."""
        return self._tokenizer.decode(ids, skip_special_tokens=not special)

    def query(self, query: Query, max_length: int) -> EncodedQuery:
        """The query as tokens, of which those from the boundary on are exactly the target's.

        Where the tokenizer would merge across the boundary, the target is encoded on its own.
        Raises InputError for an empty side, an unknown token, or more than max_length tokens.
        """
        require_both_sides(query)
        prompt, target = _join(query.prompt, query.target)
        prompt_ids = self._plain(prompt)
        target_ids = self._continuation(prompt, prompt_ids, target)
        if target_ids is None:
            raise InputError(f"{query.place}: prompt and target have no exact boundary in tokens; reword one")
        before = self._prefixed(prompt_ids)
        if not target_ids or not before:
            empty = f"the tokenizer makes nothing of the {'prompt' if target_ids else 'target'}"
            raise InputError(f"{query.place}: {empty}; it must know its script")
        tokens = (*before, *target_ids)
        self._require_known(tokens, query.place)
        if len(tokens) > max_length:
            long = f"the query is {len(tokens)} tokens long and max-length is {max_length}"
            remedy = "shorten the prompt or raise --max-length"
            raise InputError(f"{query.place}: its target would be cut off: {long}; {remedy}")
        return EncodedQuery(tokens, len(before))

    def _require_known(self, tokens: Sequence[int], place: str) -> None:
        """Raise InputError, naming place and token, where a token has no row in the model's embedding."""
        if self._known is not None and max(tokens, default=0) >= self._known:
            token = next(token for token in tokens if token >= self._known)
            unknown = f"its token {token} ('{self.decode([token], special=True)}') is unknown to the model"
            remedy = "use the tokenizer that the model was trained with"
            raise InputError(f"{place}: {unknown}, which has {self._known} tokens; {remedy}")

    def _prefixed(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Token ids behind the special prefix, unless they begin with it."""
        return tuple(ids) if tuple(ids[: len(self.prefix)]) == self.prefix else (*self.prefix, *ids)

    def _plain(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _find_prefix(self) -> tuple[int, ...]:
        for probe in PROBES:
            plain = self._plain(probe)
            full = self._tokenizer.encode(probe, add_special_tokens=True).ids
            for start in range(len(full) - len(plain) + 1):
                if plain and full[start : start + len(plain)] == plain:
                    return tuple(full[:start])
        return ()

    def _continuation(self, prompt: str, prompt_ids: list[int], target: str) -> list[int] | None:
        """Ids of the target that decode, behind the prompt's, as the whole text; None if there are none."""
        joined = self._plain(prompt + target)
        if joined[: len(prompt_ids)] == prompt_ids:
            return joined[len(prompt_ids) :]
        wanted = self.decode(joined, special=True)
        # on its own, then behind a text: a tokenizer may put a space before the start of one
        for anchor in ("", *ANCHORS):
            before, ids = self._plain(anchor) if anchor else [], self._plain(anchor + target)
            after = ids[len(before) :]
            if ids == before + after and self.decode(prompt_ids + after, special=True) == wanted:
                return after
        return None


def _join(prompt: str, target: str) -> tuple[str, str]:
    """Move the prompt's trailing spaces to the target; put one between them where there is no whitespace."""
    kept = prompt.rstrip(" ")
    between = "" if kept[-1].isspace() or target[0].isspace() else " "
    return kept, (prompt[len(kept) :] or between) + target


def _ranges(whole: list[bool], body: int) -> Iterator[tuple[int, int]]:
    """Cut tokens into ranges of nearly equal length, at most `body` each and at least two.

    whole[k]: no character is split before the k-th token; cuts are elsewhere only where a range has none.
    """
    start = 0
    while (rest := len(whole) - start) > body:
        size = ceil(rest / ceil(rest / body))
        end = next((cut for cut in range(start + size, start + 1, -1) if whole[cut]), start + size)
        yield start, end
        start = end
    yield start, len(whole)
