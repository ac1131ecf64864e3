"""Tail-patch effects of (query, passage) pairs, kept on disk as they are measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proponent.attribute.attribution import Hit
from proponent.attribute.tail_patch import TailPatcher
from proponent.progress import Progress

Key = tuple[str, str]


@dataclass
class Effects:
    """Change of a query's target probability, in percentage points, by (query id, passage id).

    One line a pair is appended to ``path`` as it is measured, so an interrupted measurement goes on; a
    last line that was cut off is measured again.
    """

    path: Path
    known: dict[Key, float] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> Effects:
        """The effects that are on disk already; none where the file is not there."""
        effects = cls(path)
        if path.is_file():
            whole = path.read_bytes()
            sound = whole[: whole.rfind(b"\n") + 1]
            if len(sound) < len(whole):
                path.write_bytes(sound)
            for line in sound.decode().splitlines():
                record = json.loads(line)
                effects.known[record["query"], record["passage"]] = record["points"]
        return effects

    def measure(self, patcher: TailPatcher, hits: Iterable[Hit], max_length: int, progress: Progress) -> None:
        """Measure every (query, proponent) of the hits that is not known yet.

        Interrupted and called again with the same hits, it ends with the same bytes.
        """
        asked = {(hit.query.id, p.id): (hit.query, p.text) for hit in hits for p in hit.proponents}
        keys = list(asked)
        missing = [number for number, key in enumerate(keys) if key not in self.known]
        if not missing:
            return
        encoder = patcher.model.encoder
        encoded = {query.id: encoder.query(query, max_length) for query, _ in asked.values()}
        before = dict(zip(encoded, patcher.probabilities(list(encoded.values())), strict=True))
        texts = {key[1]: text for key, (_, text) in asked.items()}
        numbers = {id: n for n, id in enumerate(texts)}
        passages = [encoder.passage(text, max_length) for text in texts.values()]
        pairs = [(encoded[query_id], numbers[passage_id]) for query_id, passage_id in keys]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (
            self.path.open("a", encoding="utf-8") as file,
            progress.stage("tail-patch", len(missing), "steps") as advance,
        ):
            for number, after in patcher.patched(passages, pairs, missing):
                key = keys[number]
                self.known[key] = 100 * (after - before[key[0]])
                record = {"query": key[0], "passage": key[1], "points": self.known[key]}
                file.write(json.dumps(record) + "\n")
                file.flush()
                advance(1)

    def of(self, hits: Sequence[Hit], k: int) -> dict[str, float]:
        """Mean effect of the first k proponents of each hit, by query id.  KeyError for one not measured."""
        return {
            hit.query.id: sum(self.known[hit.query.id, p.id] for p in hit.proponents[:k])
            / len(hit.proponents[:k])
            for hit in hits
        }
