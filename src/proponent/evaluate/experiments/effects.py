"""Tail-patch effects of (query, passage) pairs, kept on disk as they are measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proponent.attribute.attribution import Hit
from proponent.attribute.tail_patch import TailPatcher
from proponent.errors import InputError
from proponent.evaluate.lines import GrowingFile, number, text
from proponent.progress import Progress

Key = tuple[str, str]


@dataclass
class Effects:
    """Change of a query's target probability, in percentage points, by (query id, passage id).

    One line a pair is appended to ``path`` as it is measured, so an interrupted measurement goes on; a
    last line that was cut off is measured again.
    made_with: the step and the run, kept in every line where it is not empty.
    """

    path: Path
    made_with: str = ""
    known: dict[Key, float] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, made_with: str = "") -> Effects:
        """The effects that are on disk already; none where the file is not there.

        Raises InputError for a file of something else, and for effects that were made with something else.
        """
        effects = cls(path, made_with)
        effects._read()
        return effects

    def measure(self, patcher: TailPatcher, hits: Iterable[Hit], max_length: int, progress: Progress) -> None:
        """Measure every (query, proponent) of the hits that is not known yet.

        Interrupted and called again with the same hits, it ends with the same bytes.
        Raises InputError where another process is writing the file.
        """
        with self._file.held():
            self._read()  # again: another process may have written meanwhile
            self._append(patcher, hits, max_length, progress)

    def _append(self, patcher: TailPatcher, hits: Iterable[Hit], max_length: int, progress: Progress) -> None:
        asked = {(hit.query.id, p.id): (hit.query, p.text) for hit in hits for p in hit.proponents}
        keys = list(asked)
        missing = [number for number, key in enumerate(keys) if key not in self.known]
        with self._file.appending() as append:
            if not missing:
                return
            encoder = patcher.model.encoder
            encoded = {query.id: encoder.query(query, max_length) for query, _ in asked.values()}
            before = dict(zip(encoded, patcher.probabilities(list(encoded.values())), strict=True))
            texts = {key[1]: text for key, (_, text) in asked.items()}
            numbers = {id: n for n, id in enumerate(texts)}
            passages = [encoder.passage(text, max_length) for text in texts.values()]
            pairs = [(encoded[query_id], numbers[passage_id]) for query_id, passage_id in keys]
            with progress.stage("tail-patch", len(missing), "steps") as advance:
                for number, after in patcher.patched(passages, pairs, missing):
                    key = keys[number]
                    self.known[key] = 100 * (after - before[key[0]])
                    append(self._record(key))
                    advance(1)

    def of(self, hits: Sequence[Hit], k: int) -> dict[str, float]:
        """Mean effect of the first k proponents of each hit, by query id.  KeyError for one not measured."""
        return {
            hit.query.id: sum(self.known[hit.query.id, p.id] for p in hit.proponents[:k])
            / len(hit.proponents[:k])
            for hit in hits
        }

    def _record(self, key: Key) -> dict[str, str | float]:
        record: dict[str, str | float] = {"query": key[0], "passage": key[1], "points": self.known[key]}
        return {**record, "made_with": self.made_with} if self.made_with else record

    @property
    def _file(self) -> GrowingFile:
        return GrowingFile(self.path, "query", "the effects of a tail-patch")

    def _read(self) -> None:
        """Read what the file holds."""
        for line, (key, points, made_with) in self._file.records(_effect):
            self.known[key] = points
            if made_with != self.made_with:
                raise InputError(
                    f"{self.path}:{line}: measured with another step or run ('{made_with}', now "
                    f"'{self.made_with}'); remove the file or give another"
                )


def _effect(record: Mapping[str, Any]) -> tuple[Key, float, str]:
    """Query and passage, the points, and what they were measured with."""
    key = text(record["query"]), text(record["passage"])
    return key, number(record["points"]), text(record.get("made_with", ""))
