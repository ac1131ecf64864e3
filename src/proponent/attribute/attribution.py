"""What a trace gives: for each query its proponents and opponents, and the result files that hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard, overload

from proponent.attribute.certificate import FIELD, Certificate
from proponent.corpus.example import Query
from proponent.corpus.facts import gold_ids
from proponent.corpus.fields import ids_of, list_of, strings_of, text_of
from proponent.corpus.names import PASSAGE_COLUMNS, ROLES, is_passage_column
from proponent.corpus.queries import Queries, query_of
from proponent.corpus.records import Record, kind
from proponent.corpus.sources import read_records
from proponent.errors import InputError
from proponent.files import write_lines

SETTINGS = ("method", "mix", "run")
# Further settings: names of the other runs of a trace of several, and how many of a scan's best and lowest
# were scored again without projection.
AVERAGED, EXACT_TOP = "averaged_with", "exact_top"
TOKEN_COLUMNS = ("tokens", "target_tokens")
OWN_COLUMNS = ("chance", *TOKEN_COLUMNS, "adds", "duplicates")  # written where a passage has one
# Fields of a query that its result record has under another name, or that are long: a fact's gold passages.
OWN_FIELDS = frozenset(
    {"id", "query_id", "example_id", "prompt", "target", "inputs_plaintext", "targets_plaintext"}
    | {"prompt0", "prompt1", "prompt2", "trex_sentences", FIELD, *SETTINGS, AVERAGED, EXACT_TOP}
)

# Parts of a text, which joined are the text, each with its share of a score.
TokenScores = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ScoredPassage:
    """A passage with its influence on a query.

    id: of the passage, or of a chunk of it.  source: the passage's id in the corpus.
    score: higher is estimated to push the model more towards the target; in [-1, 1] with unit norm.
    correct: whether it states the query's fact, where a result file says so.
    row: its number in the run that was just searched.
    chance: how many passages of the corpus are expected to score as high by chance; see
    ``attribute/significance.py``.  None where that is not known.
    tokens: what each of its tokens contributes to the inner product, that is to the score before it is
    divided by the two norms; a first part '' has what is of the special prefix.  target_tokens: what each of
    the query's target tokens does.  None where it was not asked for.
    adds: of diverse passages, what it adds to those before it, in the unit of the score.
    duplicates: ids of near-identical passages that it stands for, where those were merged.
    """

    id: str
    source: str
    text: str
    score: float
    correct: bool | None = field(default=None, compare=False)
    row: int | None = field(default=None, compare=False, repr=False)
    chance: float | None = field(default=None, compare=False, repr=False)
    tokens: TokenScores | None = field(default=None, compare=False, repr=False)
    target_tokens: TokenScores | None = field(default=None, compare=False, repr=False)
    adds: float | None = field(default=None, compare=False, repr=False)
    duplicates: tuple[str, ...] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Hit:
    """One query's result: proponents from the highest score down, opponents from the lowest up.

    Diverse ones come in the order in which they were chosen.
    certificate: of a certified trace.
    """

    query: Query
    proponents: tuple[ScoredPassage, ...]
    opponents: tuple[ScoredPassage, ...]
    certificate: Certificate | None = field(default=None, compare=False)

    def states_fact(self, passage: ScoredPassage, gold: frozenset[str] | None = None) -> bool | None:
        """Whether a passage states the query's fact; None where that is not known.

        gold: ids of the passages that do, to judge by.  Without it the result file's own word counts,
        and where there is none the ids that the query lists.
        """
        if gold is None and passage.correct is not None:
            return passage.correct
        known = gold_ids(self.query) if gold is None else gold
        return None if known is None else passage.source in known

    def correct(self, gold: frozenset[str] | None = None) -> list[bool] | None:
        """Whether each proponent states the query's fact, best first, by ``states_fact``; None if unknown."""
        verdicts = [self.states_fact(passage, gold) for passage in self.proponents]
        known = [verdict for verdict in verdicts if verdict is not None]
        return known if verdicts and len(known) == len(verdicts) else None

    def record(self) -> dict[str, Any]:
        """The fields of the paper's result files; for facts, which proponents state the fact.

        The query's other fields follow; those with a value for each passage only where they still fit.
        """
        correct = self.correct()
        fields: dict[str, Any] = {
            "example_id": self.query.id,
            "query_set": "queries" if correct is None else "facts",
            "inputs_plaintext": self.query.prompt,
            "targets_plaintext": self.query.target,
            **_columns("proponent", self.proponents),
            **_columns("opponent", self.opponents),
        }
        if self.certificate is not None:
            fields[FIELD] = self.certificate.values
        fields |= {name: value for name, value in self.query.fields.items() if self._is_kept(name, value)}
        return fields if correct is None else fields | {"proponent_correct": correct}

    def _is_kept(self, name: str, value: Any) -> bool:
        if value is None or name in OWN_FIELDS or name in PASSAGE_COLUMNS:
            return False
        if not is_passage_column(name) or not isinstance(value, list):
            return True
        passages = self.proponents if name.startswith(ROLES[0]) else self.opponents
        return len(value) == len(passages)

    def __repr__(self) -> str:
        return repr(Attribution((self,)))

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return Attribution((self,))._repr_html_()


def _passages(record: Record, role: str) -> tuple[ScoredPassage, ...]:
    """The passages of one role in a result record; InputError for columns that do not fit each other."""
    texts, ids = strings_of(record, f"{role}s"), ids_of(record, f"{role}_ids")
    sources = ids_of(record, f"{role}_sources") or ids
    scores = list_of(record, f"{role}_scores", _is_number, "numbers") or [0.0] * len(ids)
    correct = list_of(record, f"{role}_correct", lambda value: value in (0, 1), "true or false")
    correct = list(map(bool, correct)) or [None] * len(ids)
    chance = list_of(record, f"{role}_chance", _is_chance, "numbers from 0 up, or null,") or [None] * len(ids)
    shares = [_token_scores(record, f"{role}_{of}") or [None] * len(ids) for of in TOKEN_COLUMNS]
    adds = list_of(record, f"{role}_adds", _is_number, "numbers") or [None] * len(ids)
    found = list_of(record, f"{role}_duplicates", _are_ids, "lists of ids")
    same: list[Any] = list(map(tuple, found)) or [None] * len(ids)
    more = (chance, *shares, adds, same)
    fitting = {len(ids), *map(len, (texts, sources, scores, correct, *more))}
    if len(fitting) > 1 or (role == "proponent" and not ids):
        raise InputError(
            f"{record.place}: {len(texts)} {role}s with {len(ids)} ids, {len(sources)} sources, "
            f"{len(scores)} scores and {len(correct)} verdicts; there must be one of each for every passage"
        )
    columns = zip(ids, sources, texts, map(float, scores), correct, [None] * len(ids), *more, strict=True)
    return tuple(ScoredPassage(*values) for values in columns)


def _token_scores(record: Record, field: str) -> list[TokenScores | None]:
    """Token scores of each passage, as ``[[text, number], ...]`` or null; InputError for anything else."""
    found = list_of(record, field, _are_token_scores, "lists of [text, number], or null,")
    return [value and tuple((text, float(share)) for text, share in value) for value in found]


def _are_token_scores(value: object) -> bool:
    if not isinstance(value, list):
        return value is None
    pairs = [pair for pair in value if isinstance(pair, list) and len(pair) == 2]
    return len(pairs) == len(value) and all(isinstance(t, str) and _is_number(share) for t, share in pairs)


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(id, str) for id in value)


def _more_columns(record: Record) -> dict[str, Any]:
    """The columns of a result record that a ``ScoredPassage`` has no place for, as they are."""
    return {
        name: value
        for name, value in record.fields.items()
        if is_passage_column(name) and name not in PASSAGE_COLUMNS
    }


def _is_chance(value: object) -> bool:
    return value is None or (_is_number(value) and value >= 0)


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) is float or (type(value) is int and abs(value) < 2**1023)


def _settings(record: Record) -> dict[str, Any]:
    """How a result file says that it was made; None for what it does not say."""
    found = {name: record.fields.get(name) for name in SETTINGS}
    for name in ("method", "run"):
        if found[name] is not None:
            text_of(record, name)
    if found["mix"] is not None and not _is_number(found["mix"]):
        raise InputError(f"{record.place}: the field 'mix' must be a number, not {kind(found['mix'])}")
    if others := strings_of(record, AVERAGED):
        found[AVERAGED] = list(others)
    if (top := record.fields.get(EXACT_TOP)) is not None:
        if type(top) is not int or top < 1:
            raise InputError(
                f"{record.place}: the field '{EXACT_TOP}' must be a number of passages, 1 or more"
            )
        found[EXACT_TOP] = top
    return found


def _columns(role: str, passages: Sequence[ScoredPassage]) -> dict[str, list[Any]]:
    shares = {f"{role}_{of}": [getattr(passage, of) for passage in passages] for of in OWN_COLUMNS}
    return {
        f"{role}s": [passage.text for passage in passages],
        f"{role}_ids": [passage.id for passage in passages],
        f"{role}_scores": [passage.score for passage in passages],
        f"{role}_sources": [passage.source for passage in passages],
        **{name: column for name, column in shares.items() if any(value is not None for value in column)},
    }


@dataclass(frozen=True)
class Attribution(Sequence[Hit]):
    """The hits of a trace, in the order of the queries.

    settings: how they were made (method, task mix, run, runs averaged with it), kept in every line of a
    result file.
    """

    hits: tuple[Hit, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        return self.hits[index]

    def records(self) -> Iterator[dict[str, Any]]:
        """One result record a query: the paper's fields, then the settings."""
        return ({**hit.record(), **self.settings} for hit in self.hits)

    def __repr__(self) -> str:
        from proponent.attribute.table import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        """How a notebook shows it: the first queries with their first passages."""
        from proponent.attribute.notebook import attribution_html

        return attribution_html(self)

    @classmethod
    def read(cls, path: str | Path) -> Attribution:
        """Read a result file: ours, or one of the paper's release.

        Sources, scores and opponents may be missing; then a passage's source is its id and its score 0.
        Every other field is kept among the query's fields, older ones under their newer names; columns of
        passages (``proponent_ais_scores``, ...) as they are, and a trace of these queries drops them.
        Raises InputError, naming file, line and field, for a line without ids, a field that is not of
        its type, and columns that do not have the same length.
        """
        hits: list[Hit] = []
        settings: dict[str, Any] = {}
        for source, record in read_records(path):
            if "proponents" not in record.fields:
                found = "not a result of a trace (no field 'proponents')"
                raise InputError(f"{record.place}: {found}; give a file that 'proponent trace' wrote")
            query = query_of(source, record)
            query = replace(query, fields={**query.fields, **_more_columns(record)})
            sides = (_passages(record, "proponent"), _passages(record, "opponent"))
            hits.append(Hit(query, *sides, Certificate.of(record)))
            settings = _settings(record) if len(hits) == 1 else settings
        if not hits:
            raise InputError(f"{path}: there are no results in it; give a file that 'proponent trace' wrote")
        Queries(tuple(hit.query for hit in hits))  # the ids are unique, no side is empty
        return cls(tuple(hits), settings)

    def write(self, path: str | Path) -> None:
        """Write the records as JSONL, whole or not at all."""
        write_lines(Path(path), self.records())
