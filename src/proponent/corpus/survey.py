"""One streaming pass over a corpus: what is in it, whether it is sound, and a sample of it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from xxhash import xxh3_128

from proponent.corpus.example import Example
from proponent.corpus.repeats import IdDigests, digest_of, repeated_id


@dataclass(frozen=True)
class Survey:
    """What one pass over a corpus found.

    passages: how many were read, the empty ones (nothing but whitespace) included.
    empty: how many of them are empty.
    fingerprint: xxh3 (128 bits) over all ids and texts in their order, as 32 hexadecimal digits.
    sample: a uniform sample of the passages that are not empty, in corpus order.
    namesakes: digests of the ids ``ID#N`` where ``ID`` is an id too, whose chunks would have the same ids.
    """

    passages: int
    empty: int
    fingerprint: str
    sample: tuple[Example, ...]
    namesakes: frozenset[bytes] = field(default=frozenset(), repr=False)


class Reading:
    """Counts of what was read of a corpus so far, and its fingerprint."""

    def __init__(self) -> None:
        self.passages = self.empty = 0
        self._hash = xxh3_128()  # faster than sha256; it shows a change, it need not withstand forgery

    def add(self, example: Example) -> None:
        """Take the next passage in."""
        self._hash.update(_framed(example.id) + _framed(example.text))
        self.passages += 1
        self.empty += example.empty

    def fingerprint(self) -> str:
        """Xxh3 of what was read, as 32 hexadecimal digits."""
        return self._hash.hexdigest()


def take_survey(corpus: Iterable[Example], sample: int, seed: int) -> Survey:
    """Survey a corpus that can be iterated more than once, in memory bounded by the sample.

    Sampled are the passages whose ids hash smallest under the seed, whatever the order of the corpus.
    Raises InputError where an id is repeated, naming both places.
    """
    reading = Reading()
    chosen: list[tuple[int, int, Example]] = []  # a heap with the largest hash on top
    with IdDigests() as digests:
        for example in corpus:
            digests.add(example.id)
            if sample > 0 and not example.empty:
                heapq.heappush(chosen, (-_rank(example.id, seed), reading.passages, example))
                if len(chosen) > sample:
                    heapq.heappop(chosen)
            reading.add(example)
        _refuse_repeats(corpus, digests.repeated())
        namesakes = frozenset(digests.namesakes())
    in_order = tuple(example for _, _, example in sorted(chosen, key=lambda entry: entry[1]))
    return Survey(reading.passages, reading.empty, reading.fingerprint(), in_order, namesakes)


def part_of_sample(sample: Sequence[Example], number: int, seed: int) -> list[Example]:
    """The passages, in corpus order, that a survey with a smaller sample would have found."""
    smallest = {example.id for example in heapq.nsmallest(number, sample, key=lambda e: _rank(e.id, seed))}
    return [example for example in sample if example.id in smallest]


def _framed(text: str) -> bytes:
    """The text's bytes after their length, so that no two sequences of texts give the same bytes."""
    encoded = text.encode()
    return len(encoded).to_bytes(8, "little") + encoded


def _rank(id: str, seed: int) -> int:
    return int.from_bytes(blake2b(f"{seed}:{id}".encode(), digest_size=8).digest(), "big")


def _refuse_repeats(corpus: Iterable[Example], repeated: set[bytes]) -> None:
    """Read the corpus again, only where an id is repeated, to name it and its two places."""
    if not repeated:
        return
    places: dict[bytes, str] = {}
    for example in corpus:
        digest = digest_of(example.id)
        if digest in places:
            remedy = "ids must be unique: name another field with --id-field"
            raise repeated_id(example.id, places[digest], example.place, remedy)
        if digest in repeated:
            places[digest] = example.place
