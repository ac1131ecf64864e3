"""Malformed inputs, made of sound ones by a seed: bytes changed, cut, doubled, and what parsers trip over."""

from __future__ import annotations

import random

TOKENS = (
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\n\n", b"\x85"),
    *(b'"', b"\\", b"{", b"}", b"[" * 40, b"]", b",", b":", b"\t", b"'", b"\x1b[2J", b"\xe2\x80\xae"),
    *(b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"-Infinity", b"9" * 400, b"0.0", b'""', b"[]", b"{}"),
    *(b"[" * 3000, b'{"a":' * 3000, b"../../etc/passwd", b"%s%n", b"<script>", b"id", b"text", b"a" * 5000),
)


def mutated(sound: bytes, chosen: random.Random) -> bytes:
    """A sound input after one to four changes."""
    made = bytearray(sound)
    for _ in range(chosen.choice((1, 1, 2, 4))):
        place = chosen.randrange(len(made) + 1)
        other = chosen.randrange(len(made) + 1)
        start, end = min(place, other), max(place, other)
        kind = chosen.randrange(8)
        if kind == 0 and made:
            made[place % len(made)] ^= 1 << chosen.randrange(8)
        elif kind == 1 and made:
            made[place % len(made)] = chosen.randrange(256)
        elif kind == 2:
            del made[start : min(end, start + chosen.choice((1, 8, len(made))))]
        elif kind == 3:
            made[place:place] = made[start:end]
        elif kind == 4:
            made[place:place] = chosen.choice(TOKENS)
        elif kind == 5:
            made[start : start + chosen.randrange(12)] = chosen.choice(TOKENS)
        elif kind == 6:
            del made[place:]
        else:
            made[place:place] = chosen.randbytes(chosen.randrange(20))
    return bytes(made)
