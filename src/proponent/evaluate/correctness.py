"""Does the model itself say the target?  Greedy generation, and how often its samples do."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from proponent.attribute.attribution import Hit
from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.files import written_whole
from proponent.gradients.model import LanguageModel
from proponent.progress import Progress

SPARE_TOKENS = 4


@dataclass(frozen=True)
class Prediction:
    """What the model says to a query.

    text: its greedy continuation.  correct: whether that begins with the target or one of its aliases.
    share: of the samples at temperature 1 that do, in [0, 1]; where none were drawn, of the greedy one.
    """

    query_id: str
    text: str
    correct: bool
    share: float


def predict(
    model: LanguageModel, queries: Sequence[Query], samples: int = 20, seed: int = 0
) -> Iterator[Prediction]:
    """Generate for every query, greedily and ``samples`` times at temperature 1.

    As many tokens as the longest accepted answer needs, and a few to spare.  A query's samples depend on
    the seed and its own id alone.
    """
    for query in queries:
        torch.manual_seed(zlib.crc32(f"{seed}/{query.id}".encode()))
        yield _predict(model, query, samples)


def predictions(
    model: LanguageModel, queries: Sequence[Query], path: Path, progress: Progress, samples: int = 20
) -> dict[str, Prediction]:
    """Predictions of all queries by id, from the file at ``path`` or made and written to it."""
    if not path.is_file():
        made = _predict_all(model, queries, samples, progress)
        with written_whole(path) as aside:
            aside.write_text("".join(json.dumps(asdict(p)) + "\n" for p in made), encoding="utf-8")
    read = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            prediction = Prediction(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{path}:{number}: no prediction; remove the file to ask the model again"
            ) from error
        read[prediction.query_id] = prediction
    if lacking := [query.id for query in queries if query.id not in read]:
        raise InputError(f"{path}: no prediction of '{lacking[0]}'; remove the file to ask the model again")
    return read


def by_correctness(
    model: LanguageModel, queries: Sequence[Query], progress: Progress
) -> Callable[[Hit], str]:
    """The group of a hit by its query: whether the model's greedy answer is ``right`` or ``wrong``."""
    correct = {p.query_id: p.correct for p in _predict_all(model, queries, 0, progress)}
    return lambda hit: {True: "right", False: "wrong", None: "not asked"}[correct.get(hit.query.id)]


def _predict_all(
    model: LanguageModel, queries: Sequence[Query], samples: int, progress: Progress
) -> list[Prediction]:
    made = []
    with progress.stage("generating", len(queries), "queries") as advance:
        for prediction in predict(model, queries, samples):
            made.append(prediction)
            advance(1)
    return made


def _predict(model: LanguageModel, query: Query, samples: int) -> Prediction:
    answers = accepted_answers(query)
    encoded = [
        model.encoder.query(Query(query.id, query.prompt, answer, place=query.place), 2**20)
        for answer in answers
    ]
    prompt = encoded[0].tokens[: encoded[0].boundary]
    length = max(len(e.tokens) - e.boundary for e in encoded) + SPARE_TOKENS
    greedy = _continue(model, prompt, length, 1, sample=False)[0]
    drawn = _continue(model, prompt, length, samples, sample=True) if samples else [greedy]
    share = sum(begins_with_answer(text, answers) for text in drawn) / len(drawn)
    return Prediction(query.id, greedy, begins_with_answer(greedy, answers), share)


@torch.no_grad()
def _continue(model: LanguageModel, prompt: Sequence[int], length: int, rows: int, sample: bool) -> list[str]:
    """Continuations of a prompt, decoded."""
    tokens = torch.tensor([list(prompt)] * rows, device=model.device)
    made = model.causal.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=length,
        do_sample=sample,
        temperature=1.0 if sample else None,
        top_p=None,
        top_k=0 if sample else None,
        pad_token_id=0,
    )
    return [model.encoder.decode(row[len(prompt) :].tolist()) for row in made]


def accepted_answers(query: Query) -> list[str]:
    """The target and its aliases (``entity1_alias``), those that are not empty; InputError for no list."""
    aliases = query.fields.get("entity1_alias") or []
    if not isinstance(aliases, list):
        raise InputError(f"{query.place}: the field 'entity1_alias' must be a list of strings")
    return list(dict.fromkeys([query.target, *(str(alias) for alias in aliases if str(alias).strip())]))


def begins_with_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether a text begins with an answer as whole words, whatever the case and the space before it."""
    said = " ".join(text.casefold().split())
    return any(
        re.match(re.escape(" ".join(answer.casefold().split())) + r"(?!\w)", said) is not None
        for answer in answers
    )
