"""Malformed inputs, made of sound ones by a seed: bytes changed, cut, doubled, and what parsers trip over."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from typing import Any

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


# JSON values in the place of others: of other types, out of range, and such as look alike.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**63, 10**400, 0.5, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "0", "nan", "\x00", "\ud800", "\u2028", "a" * 3000, "../x", "/", "\n", "none", "train"),
    *([], [[]], [None], ["a", 1], [0.5, "b"], {}, {"": 0}, {"id": {}}, [["a", "b", "c"]], [{}]),
)


def retyped(sound: bytes, chosen: random.Random) -> bytes:
    """JSON, a value or one a line, after a few were put in the place of others, taken out, or renamed."""
    try:
        lines = [json.loads(sound)]
    except ValueError:
        lines = [json.loads(line) for line in sound.splitlines() if line.strip()]
    for _ in range(chosen.choice((1, 1, 2, 3))):
        number = chosen.randrange(len(lines))
        lines[number] = _changed(lines[number], chosen)
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _changed(value: Any, chosen: random.Random) -> Any:
    """A JSON value with something in it changed, at any depth."""
    if isinstance(value, dict | list) and value and chosen.random() < 0.9:
        key: Any = chosen.choice(list(value) if isinstance(value, dict) else range(len(value)))
        kind = chosen.randrange(6)
        if kind == 0:
            del value[key]
        elif kind == 1 and isinstance(value, dict):
            value[chosen.choice(("", "id", "extra", *value))] = value.pop(key)
        elif kind == 2 and isinstance(value, list):
            value.insert(key, value[key])
        else:
            value[key] = _changed(value[key], chosen)
        return value
    return deepcopy(chosen.choice(ODD))


def malformed(sound: bytes, seed: int, lines_of_json: bool) -> bytes:
    """A malformed input by a seed; of JSON every second has values changed, and not bytes."""
    chosen = random.Random(seed)
    return retyped(sound, chosen) if lines_of_json and seed % 2 else mutated(sound, chosen)
