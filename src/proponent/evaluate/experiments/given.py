"""What an experiment is asked to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from proponent.errors import InputError
from proponent.progress import Progress, Silent


@dataclass(frozen=True)
class Given:
    """A finished run, and what an experiment needs besides; the catalogue says which takes what.

    facts: a facts file.  sentences: a file of annotated passages.  nli: a model that judges entailment, its
    folder or hub id; None for the rule by names.  models: model folders or hub ids, in the order of a table's
    rows.  queries: files of prompts and targets.  patch_queries: how many queries tail-patch samples.
    seed: of every sample.
    """

    run: Path
    facts: Path | None = None
    sentences: Path | None = None
    nli: str | None = None
    models: tuple[str, ...] = ()
    queries: tuple[Path, ...] = ()
    patch_queries: int = 60
    seed: int = 0
    device: str | None = None
    progress: Progress = field(default_factory=Silent)

    @property
    def facts_file(self) -> Path:
        """The facts file; InputError where there is none."""
        if self.facts is None or not self.facts.is_file():
            raise InputError(f"{self.facts}: no such file of facts")
        return self.facts
