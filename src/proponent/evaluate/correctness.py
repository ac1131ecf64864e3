"""Does the model itself say the target?  Greedy generation, and how often its samples do."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from proponent.attribute.attribution import Hit
from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.evaluate.answers import answer_in
from proponent.files import parse_json, written_whole
from proponent.gradients.model import LanguageModel
from proponent.progress import Progress

SPARE_TOKENS = 4
ASK_AGAIN = "remove the file to ask the model again"


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

    @property
    def answer(self) -> str:
        """The word or name that the text begins with; see ``answer_in``."""
        return answer_in(self.text)


def predictions(
    model: LanguageModel, queries: Sequence[Query], path: Path, progress: Progress, samples: int = 20
) -> dict[str, Prediction]:
    """Predictions of all queries by id, from the file at ``path`` or made and written to it."""
    if not path.is_file():
        made = predict(model, queries, progress, samples)
        with written_whole(path) as aside:
            aside.write_text("".join(json.dumps(asdict(p)) + "\n" for p in made), encoding="utf-8")
    read = read_predictions(path)
    if lacking := [query.id for query in queries if query.id not in read]:
        raise InputError(f"{path}: no prediction of '{lacking[0]}'; {ASK_AGAIN}")
    return read


def read_predictions(path: Path) -> dict[str, Prediction]:
    """Predictions by id that were written before; InputError for a file of something else."""
    read, wanted = {}, {"query_id": str, "text": str, "correct": bool, "share": float}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            fields = parse_json(line)
            if not isinstance(fields, dict) or {name: type(fields[name]) for name in fields} != wanted:
                raise TypeError("other fields")
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}:{number}: no prediction; {ASK_AGAIN}") from error
        read[fields["query_id"]] = Prediction(**fields)
    return read


def by_correctness(
    model: LanguageModel, queries: Sequence[Query], progress: Progress
) -> Callable[[Hit], str]:
    """The group of a hit by its query: whether the model's greedy answer is ``right`` or ``wrong``."""
    groups = {p.query_id: "right" if p.correct else "wrong" for p in predict(model, queries, progress)}
    return lambda hit: groups.get(hit.query.id, "not asked")


def predict(
    model: LanguageModel, queries: Sequence[Query], progress: Progress, samples: int = 0, seed: int = 0
) -> list[Prediction]:
    """Generate for every query, greedily and ``samples`` times at temperature 1.

    As many tokens as the longest accepted answer needs, and a few to spare.  A query's samples depend on
    the seed and its own id alone.
    """
    made = []
    with progress.stage("generating", len(queries), "queries") as advance:
        for query in queries:
            torch.manual_seed(zlib.crc32(f"{seed}/{query.id}".encode()))
            made.append(_predict(model, query, samples))
            advance(1)
    return made


def _predict(model: LanguageModel, query: Query, samples: int) -> Prediction:
    answers = accepted_answers(query)
    encoded = [model.encoder.query(replace(query, target=answer), 2**20) for answer in answers]
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
    how = {"temperature": 1.0, "top_k": 0} if sample else {"temperature": None, "top_k": None}
    mask, limit = torch.ones_like(tokens), {"max_new_tokens": length, "pad_token_id": 0}
    made = model.causal.generate(tokens, attention_mask=mask, do_sample=sample, top_p=None, **how, **limit)
    return [model.encoder.decode(row[len(prompt) :].tolist()) for row in made]


def accepted_answers(query: Query) -> list[str]:
    """The target and its aliases (``entity1_alias``), those that are not empty; InputError for no list."""
    aliases = query.fields.get("entity1_alias") or []
    if not isinstance(aliases, list):
        raise InputError(f"{query.place}: the field 'entity1_alias' must be a list of strings")
    return list(dict.fromkeys([query.target, *(str(alias) for alias in aliases if str(alias).strip())]))


def begins_with_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether a text begins with an answer as whole words, whatever the case and the space before it."""
    said, *starts = (" ".join(words.casefold().split()) for words in (text, *answers))
    return any(re.match(re.escape(start) + r"(?!\w)", said) for start in starts)
