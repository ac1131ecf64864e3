"""Hits as they show themselves in a notebook: a compact table of proponents beside opponents."""

from __future__ import annotations

import re
from html import escape
from itertools import zip_longest

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.attribute.shading import in_words, shares
from proponent.attribute.significance import by_chance, nothing_stands_out
from proponent.attribute.table import notes_below

SHOWN_QUERIES, SHOWN_PASSAGES = 5, 5
LONG = 240  # characters of a passage before it is folded
SHORT_WORD = 3  # letters up to which a word of the prompt is not marked
# Dark ink on a light ground and a line of its own: for light and dark notebooks, and without colours.
MARKS = {
    "target": "background:#ffe3bf;color:#6b3400;border-bottom:3px double #8a4200",
    "prompt": "background:#d6e8fa;color:#0a3f6b;border-bottom:2px solid #0a4f86",
}
CELL = "text-align:left;vertical-align:top;padding:4px 10px"
NUMBER = f"{CELL};font-variant-numeric:tabular-nums;white-space:nowrap"


def attribution_html(hits: Attribution) -> str:
    """The first queries with their first passages as HTML; every text in it is escaped."""
    notes = (f"<p>{escape(note)}</p>" for note in notes_below(hits, SHOWN_QUERIES))
    return "".join(["<div>", *map(_hit_html, hits[:SHOWN_QUERIES]), *notes, "</div>"])


def _hit_html(hit: Hit) -> str:
    """One query with its first proponents and opponents beside each other."""
    words = _marked_words(hit.query.prompt, hit.query.target)
    target = f'<mark style="{MARKS["target"]}"><bdi>{escape(hit.query.target)}</bdi></mark>'
    sides = [("proponents", hit.proponents)] + ([("opponents", hit.opponents)] if hit.opponents else [])
    heads = "".join(f'<th colspan="2" style="{CELL}">{role}</th>' for role, _ in sides)
    rows = zip_longest(*(passages[:SHOWN_PASSAGES] for _, passages in sides))
    body = "".join(f"<tr>{''.join(_cells(hit, p, words) for p in row)}</tr>" for row in rows)
    notes = [note] if (note := nothing_stands_out(hit)) else []
    if hit.certificate is not None:
        notes.append(hit.certificate.sentence(len(hit.proponents), len(hit.opponents)))
    return (
        f"<p><b><bdi>{escape(hit.query.prompt)}</bdi></b> → {target}</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        + "".join(f"<p>{escape(note)}</p>" for note in notes)
    )


def _cells(hit: Hit, passage: ScoredPassage | None, words: re.Pattern[str]) -> str:
    if passage is None:
        return f'<td style="{CELL}"></td>' * 2
    mark = '<br><span title="states the fact">✓ gold</span>' if hit.states_fact(passage) else ""
    chance = f"<br><small>{escape(found)} by chance</small>" if (found := by_chance(passage)) else ""
    return (
        f'<td style="{NUMBER}">{passage.score:+.4f}{chance}{mark}<br><code>{escape(passage.id)}</code></td>'
        f'<td style="{CELL}">{_shaded(passage) if passage.tokens else _folded(passage.text, words)}</td>'
    )


def _shaded(passage: ScoredPassage) -> str:
    """A passage with its tokens shaded by their scores, and the strongest named below."""
    parts = [
        f'<span style="background:rgba({"0,128,0" if share > 0 else "200,0,0"},{abs(share) / 2:.2f})" '
        f'title="{share:+.2f} of the strongest">{escape(text)}</span>'
        if share
        else escape(text)
        for text, share in shares(passage.tokens or ())
    ]
    return f'<bdi dir="auto">{"".join(parts)}</bdi><br><small>{escape(in_words(passage))}</small>'


def _folded(text: str, words: re.Pattern[str]) -> str:
    """A passage on one line, its words marked; a long one opens when it is clicked."""
    flat = " ".join(text.split())
    if len(flat) <= LONG:
        return f'<bdi dir="auto">{_marked(flat, words)}</bdi>'
    beginning = f'<bdi dir="auto">{_marked(flat[:LONG], words)} …</bdi>'
    return f'<details><summary>{beginning}</summary><bdi dir="auto">{_marked(flat, words)}</bdi></details>'


def _marked_words(prompt: str, target: str) -> re.Pattern[str]:
    """Finds the target, as group ``target``, and the longer words of the prompt, whatever their case."""
    longer = sorted({word for word in re.findall(r"\w+", prompt) if len(word) > SHORT_WORD}, key=len)
    others = "|".join(map(re.escape, reversed(longer))) or r"(?!)"
    wanted = r"\s+".join(map(re.escape, target.split())) or r"(?!)"
    return re.compile(rf"(?<!\w)(?:(?P<target>{wanted})|(?P<prompt>{others}))(?!\w)", re.IGNORECASE)


def _marked(text: str, words: re.Pattern[str]) -> str:
    parts, end = [], 0
    for found in words.finditer(text):
        style = MARKS[found.lastgroup or "prompt"]
        parts += [escape(text[end : found.start()]), f'<mark style="{style}">{escape(found[0])}</mark>']
        end = found.end()
    return "".join([*parts, escape(text[end:])])
