"""Which tokens of a passage, and which of the target's, make its score: one pass over what was retrieved.

The inner product of a query and a passage is a sum over the passage's tokens (``gradients/token_scores.py``)
and over the target's, whose losses the query's gradient is the sum of.  Both are exact for every method.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from proponent.attribute.attribution import Hit, ScoredPassage, TokenScores
from proponent.attribute.method import Method
from proponent.corpus.example import Chunk, Example
from proponent.errors import InputError
from proponent.gradients.token_scores import token_scores
from proponent.index.mix import TaskMix
from proponent.index.run import Index, Passage
from proponent.index.scores import QueryTerms
from proponent.progress import Progress

if TYPE_CHECKING:
    from proponent.attribute.tracing import Tracer

QUERIES = 32  # whose directions are held together: one vector of float64 for each of their target tokens
SIBLINGS = 64  # rows that are read at a time to find the other chunks of a passage


def with_tokens(
    tracer: Tracer, hits: Sequence[Hit], method: Method, task_mix: TaskMix | None, progress: Progress
) -> list[Hit]:
    """The hits of a trace in this run with ``tokens`` and ``target_tokens`` of every passage.

    A passage whose chunks were not all kept has none: its tokens cannot be told apart any more.
    """
    found: list[Hit] = []
    with progress.stage("token scores", len(hits), "queries") as advance:
        for start in range(0, len(hits), QUERIES):
            part = hits[start : start + QUERIES]
            found += _scored(tracer, part, method, task_mix)
            advance(len(part))
    return found


def _scored(tracer: Tracer, hits: Sequence[Hit], method: Method, task_mix: TaskMix | None) -> list[Hit]:
    targets = [_Target.of(tracer, hit, method, task_mix) for hit in hits]
    wanted: dict[int, list[int]] = {}  # numbers of the hits that retrieved a row
    for number, hit in enumerate(hits):
        for passage in (*hit.proponents, *hit.opponents):
            if passage.row is not None and number not in wanted.setdefault(passage.row, []):
                wanted[passage.row].append(number)
    spelled = _spelled(tracer, wanted)
    rows = list(spelled)
    directions = [torch.cat([targets[n].directions for n in wanted[row]]) for row in rows]
    chunks = [spelled[row][0] for row in rows]
    tokens, starts = [chunk.tokens for chunk in chunks], [chunk.start for chunk in chunks]
    scores = token_scores(tracer.extract, tokens, starts, directions, tracer.spec.output)
    shares: dict[tuple[int, int], Tensor] = {}  # [j, t] by hit and row
    for row, found in zip(rows, scores, strict=True):
        parts = found.split([len(targets[n].directions) for n in wanted[row]])
        shares |= {(n, row): part for n, part in zip(wanted[row], parts, strict=True)}

    def with_shares(number: int, passage: ScoredPassage) -> ScoredPassage:
        row = passage.row
        if row is None or row not in spelled:
            return passage
        share = shares[number, row]
        return replace(
            passage,
            tokens=_merged(spelled[row][1], share.sum(0)),
            target_tokens=_merged(targets[number].texts, share.sum(1)),
        )

    return [
        replace(
            hit,
            proponents=tuple(with_shares(n, passage) for passage in hit.proponents),
            opponents=tuple(with_shares(n, passage) for passage in hit.opponents),
        )
        for n, hit in enumerate(hits)
    ]


@dataclass(frozen=True)
class _Target:
    """A query's target, token by token.

    texts: what each token adds.  directions: R⁻¹ φ [j, d] float64 of the gradient of each token's own loss.
    """

    texts: Sequence[str]
    directions: Tensor

    @classmethod
    def of(cls, tracer: Tracer, hit: Hit, method: Method, task_mix: TaskMix | None) -> _Target:
        texts, features = tracer.target_features(hit.query, method.output)
        inner = method.inner_product(task_mix)
        terms = QueryTerms(features, tracer.index.whitening, inner.subspace)
        return cls(texts, terms.directions(inner))


def _merged(texts: Iterable[str], shares: Tensor) -> TokenScores:
    """Parts of a text with their shares; a token that adds no text counts for the one before it."""
    merged: list[tuple[str, float]] = []
    for text, share in zip(texts, shares.tolist(), strict=True):
        if merged and not text:
            merged[-1] = (merged[-1][0], merged[-1][1] + share)
        else:
            merged.append((text, share))
    return tuple(merged)


def _spelled(tracer: Tracer, rows: Iterable[int]) -> dict[int, tuple[Chunk, list[str]]]:
    """The chunk of each row as it was indexed, with the text of each token; without rows where it is lost."""
    found: dict[int, tuple[Chunk, list[str]]] = {}
    for row, passage in tracer.index.passages(list(rows)).items():
        text = passage.text if passage.id == passage.source else _whole(tracer.index, row, passage)
        example = Example(passage.source, text, tracer.index.folder.name)
        for chunk, spelling in tracer.model.encoder.spelled(example, tracer.spec.max_length):
            if (chunk.id, chunk.text) == (passage.id, passage.text):
                found[row] = (chunk, spelling)
    return found


def indexed_chunks(tracer: Tracer, rows: Sequence[int]) -> list[Chunk]:
    """The chunk of each row as it was indexed.

    Raises InputError where that cannot be told any more, since another chunk of the passage was not kept.
    """
    known = {row: chunk for row, (chunk, _) in _spelled(tracer, rows).items()}
    for lost in (row for row in rows if row not in known):
        passage = tracer.index.passages([lost])[lost]
        raise InputError(
            f"{tracer.index.folder.name}: the tokens of '{passage.id}' are not known any more, since another "
            "chunk of it was not kept; index the corpus again without it"
        )
    return [known[row] for row in rows]


def _whole(index: Index, row: int, passage: Passage) -> str:
    """The text of all chunks of a passage: tokens are those of the whole text, which was cut afterwards."""
    first, texts = row - int(passage.id.rpartition("#")[2]), list[str]()
    while True:
        start = first + len(texts)
        members = index.passages(range(max(0, start), min(start + SIBLINGS, len(index))))
        same = [p.text for p in members.values() if p.source == passage.source]
        texts += same
        if len(same) < SIBLINGS:
            return "".join(texts)
