"""The corpus: passages with ids, read as a stream as often as needed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from proponent.corpus.example import Example
from proponent.corpus.fields import id_of, text_of
from proponent.corpus.records import FileSource, Record, Source
from proponent.corpus.sources import resolve
from proponent.corpus.survey import Survey, take_survey
from proponent.errors import InputError

ID_FIELDS = ("id", "sentence_id", "example_id", "passage_id", "doc_id", "fact_id")
TEXT_FIELD = "text"


@dataclass(frozen=True)
class Corpus:
    """Passages of files, folders, hub datasets or memory; iterate it as often as you like.

    id_field: None takes the first of `ID_FIELDS` that a source's first record has; where it has none,
    and where id_field is the empty string, ids are made of file name and line (``name.jsonl:12``).
    text_field: None for ``text``.  limit: only the first so many passages.
    """

    sources: tuple[Source, ...]
    id_field: str | None = None
    text_field: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InputError(f"a limit of {self.limit} passages leaves none; give 1 or more")

    @classmethod
    def read(
        cls,
        *sources: str | os.PathLike[str],
        id_field: str | None = None,
        text_field: str | None = None,
        limit: int | None = None,
        text_as: str = "lines",
    ) -> Corpus:
        """The corpus in files, globs, folders, URLs and hub datasets (``hf:owner/name:config:split``).

        text_as: ``lines`` reads each line of a ``.txt`` file as a passage, ``documents`` the whole file.
        A URL is that of a file of a store, or a pattern (``s3://bucket/*.jsonl``).
        Only names are looked up here; iterating raises InputError for a record that cannot be used.
        """
        return cls(resolve(sources, text_as), id_field, text_field, limit)

    @classmethod
    def of(cls, passages: Iterable[str | Example]) -> Corpus:
        """A corpus in memory; a plain string's id is its position, from 0."""
        examples = tuple(
            passage if isinstance(passage, Example) else Example(str(n), passage, f"passage {n}")
            for n, passage in enumerate(passages)
        )
        return cls((_Memory(examples),))

    def __iter__(self) -> Iterator[Example]:
        """Yield the passages in order; raises InputError at the first record that is not one."""
        return islice(chain.from_iterable(map(self._passages, self.sources)), self.limit)

    def survey(self, sample: int = 256, seed: int = 0) -> Survey:
        """Count, check, fingerprint and sample the corpus in one pass of bounded memory.

        Raises InputError for a repeated id, and where there is no passage with text.
        """
        survey = take_survey(self, sample, seed)
        names = ", ".join(source.name for source in self.sources[:3]) + ("…" if self.sources[3:] else "")
        if survey.passages == 0:
            raise InputError(f"{names}: the corpus is empty; it needs at least one passage")
        if survey.passages == survey.empty:
            raise InputError(f"{names}: all {survey.empty} passages are empty; is it the right --text-field?")
        return survey

    def text_note(self, passages: int) -> str:
        """One line on how ``.txt`` files were read, '' where there are none; passages: the survey's count."""
        texts = [s for s in self.sources if isinstance(s, FileSource) and s.form == ".txt"]
        if not texts:
            return ""
        names = texts[0].name if len(texts) == 1 else f"{len(texts):,} text files"
        held = f"{passages:,} passage{'s' * (passages != 1)}, " if len(texts) == len(self.sources) else ""
        if texts[0].text_as == "documents":
            return f"{names}: {held}one a file; --text-as lines reads each line as one passage"
        return f"{names}: {held}one a line; --text-as documents reads a file as one passage"

    def _passages(self, source: Source) -> Iterator[Example]:
        text_field, id_field = self.text_field or TEXT_FIELD, self.id_field
        needed = (text_field, id_field) if id_field else (text_field,)
        for record in source.records(needed, useful=ID_FIELDS):
            if id_field is None:
                id_field = next((name for name in ID_FIELDS if name in record.fields), "")
            id = id_of(record, id_field, "--id-field") if id_field else f"{source.name}:{record.number}"
            yield Example(id, text_of(record, text_field, "--text-field"), record.place)


@dataclass(frozen=True)
class _Memory:
    """Passages in memory, as a source like any other."""

    examples: tuple[Example, ...]
    name: str = "memory"

    def records(self, needed: Collection[str], useful: Collection[str]) -> Iterator[Record]:
        for number, example in enumerate(self.examples, start=1):
            yield Record({"id": example.id, TEXT_FIELD: example.text}, example.place, number)
