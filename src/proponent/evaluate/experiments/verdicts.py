"""Verdicts of a judge of entailment on pairs of passage and query, kept on disk as they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from xxhash import xxh3_64_hexdigest

from proponent.errors import InputError
from proponent.evaluate.entailment import GOLD, Judge, Pair
from proponent.evaluate.lines import GrowingFile, number, text
from proponent.progress import Progress

TOGETHER = 64  # pairs that are judged at once, always the same ones: rounding depends on the batch
DIGITS = 6  # of a score


class Verdict(NamedTuple):
    """score: of the best window, in [0, 1].  window: its text."""

    score: float
    window: str

    @property
    def gold(self) -> bool:
        """Whether the passage entails the statement."""
        return self.score > GOLD


@dataclass
class Verdicts:
    """A judge with the verdicts that it has given, a line each, by checksums of passage and statement."""

    judge: Judge
    path: Path
    known: dict[tuple[str, str], Verdict] = field(default_factory=dict, init=False)

    def of(self, pairs: Sequence[Pair], progress: Progress) -> list[Verdict]:
        """A verdict for each pair; those not known yet are made and written.

        Interrupted and called again with the same pairs, the file ends with the same bytes.
        Raises InputError for a file of something else, or of another judge.
        """
        asked = {_key(pair): pair for pair in pairs}
        file = GrowingFile(self.path, "passage", "verdicts on passages")
        with file.held():
            self._read(file)
            keys = list(asked)
            parts = [keys[start : start + TOGETHER] for start in range(0, len(keys), TOGETHER)]
            with file.appending() as append, progress.stage("judging", len(keys), "pairs") as advance:
                for part in parts:
                    if any(key not in self.known for key in part):
                        made = self._judged([asked[key] for key in part])
                        for key, verdict in zip(part, made, strict=True):
                            if key not in self.known:
                                self.known[key] = verdict
                                append(self._record(key))
                    advance(len(part))
        return self.of_known(pairs)

    def of_known(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """The verdicts on pairs that were judged; KeyError for another."""
        return [self.known[_key(pair)] for pair in pairs]

    def _judged(self, pairs: Sequence[Pair]) -> list[Verdict]:
        windows = [self.judge.windows(pair) for pair in pairs]
        all_windows = [Pair(w, pair.query) for pair, own in zip(pairs, windows, strict=True) for w in own]
        scores = iter(self.judge.scores(all_windows))
        scored = ([Verdict(round(next(scores), DIGITS), window) for window in own] for own in windows)
        return [max(own, key=lambda verdict: verdict.score) for own in scored]  # the first of equals

    def _record(self, key: tuple[str, str]) -> dict[str, object]:
        passage, statement = key
        verdict = {"score": self.known[key].score, "window": self.known[key].window}
        return {"passage": passage, "statement": statement, "judge": self.judge.identity, **verdict}

    def _read(self, file: GrowingFile) -> None:
        for line, (key, verdict, judge) in file.records(_parsed):
            self.known[key] = verdict
            if judge != self.judge.identity:
                raise InputError(f"{self.path}:{line}: verdicts of another judge; remove the file")


def _parsed(record: Mapping[str, Any]) -> tuple[tuple[str, str], Verdict, str]:
    """Key and verdict of a line, and whose it is."""
    key = text(record["passage"]), text(record["statement"])
    return key, Verdict(number(record["score"]), text(record["window"])), text(record["judge"])


def _key(pair: Pair) -> tuple[str, str]:
    """Checksums of the passage, and of all of the query that a judge may read."""
    fields = pair.query.fields
    names = [(name, str(fields[name])) for name in sorted(fields) if name.startswith("entity")]
    statement = f"{pair.hypothesis}\n{names}"
    return _checksum(pair.premise), _checksum(statement)


def _checksum(text: str) -> str:
    return xxh3_64_hexdigest(text.encode("utf-8", "surrogatepass"))
