"""Running a command in this process, and what the commands are run on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SMALL = ("--dim", "70", "--layer-groups", "2", "--max-length", "48", "--device", "cpu")
PASSAGES = {
    "paris": "The capital of France is Paris.",
    "rome": "Rome is the capital of Italy.",
    "blank": " ",
    "gold": "Gold has the symbol Au.",
    "long": "A passage that is longer than the forty-eight tokens of one chunk.",
}
FACTS = [
    {"fact_id": "f0", "prompt0": "France's capital is", "entity1": "Paris", "trex_sentences": ["paris"]},
    {"fact_id": "f1", "prompt0": "The symbol of gold is", "entity1": "Au", "trex_sentences": ["gold"]},
]


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    def assert_refused(self, *words: str) -> None:
        """Exit code 2 and one error line, the last; progress before it is no error; nothing on stdout."""
        lines = self.err.splitlines()
        assert self.code == 2, self
        assert self.out == ""
        assert [line for line in lines if line.startswith("error:")] == lines[-1:], self.err
        assert "Traceback" not in self.err
        assert not [word for word in words if word not in lines[-1]], lines[-1]


Command = Callable[..., Answer]


def write_lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Made:
    """A model, a corpus, facts and a finished run of them."""

    model: Path
    corpus: Path
    facts: Path
    run: Path


def index_arguments(made: Made, run: Path, corpus: Path | None = None, *more: str) -> list[str]:
    return ["index", str(corpus or made.corpus), str(run), "--model", str(made.model), *SMALL, *more]
