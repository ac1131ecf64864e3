"""Hugging Face datasets, local or from the hub, read as a stream. Needs the extra ``datasets``."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proponent.corpus.records import Record, columns_to_read
from proponent.errors import InputError, first_line

HUB_PREFIX = "hf:"


@dataclass(frozen=True)
class DatasetSource:
    """A dataset of the hub, a folder saved by ``save_to_disk``, or a folder of data files.

    location: hub id or folder.  config, split: None for the only one (of several splits, ``train``).
    """

    name: str
    location: str
    config: str | None = None
    split: str | None = None

    def records(self, needed: Collection[str], useful: Collection[str]) -> Iterator[Record]:
        try:
            rows = self._split_of(self._load())
            if rows.column_names:  # a stream may not know them before it is read
                rows = rows.select_columns(columns_to_read(rows.column_names, needed, useful))
            for number, fields in enumerate(rows, start=1):
                yield Record(fields, f"{self.location}:{number}", number)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # loading scripts, networks and formats raise what they like
            raise InputError(f"{self.location}: not a readable dataset ({first_line(error)})") from error

    def _load(self) -> Any:
        try:
            import datasets
        except ModuleNotFoundError as error:
            remedy = "install it with: pip install 'proponent[datasets]'"
            raise InputError(f"{self.location}: reading it needs the package datasets; {remedy}") from error
        if any(Path(self.location, name).is_file() for name in ("state.json", "dataset_dict.json")):
            return datasets.load_from_disk(self.location)
        return datasets.load_dataset(self.location, self.config, streaming=True)

    def _split_of(self, loaded: Any) -> Any:
        if not isinstance(loaded, dict):
            return loaded
        split = self.split or ("train" if len(loaded) > 1 else next(iter(loaded)))
        if split not in loaded:
            found = ", ".join(map(str, loaded))
            remedy = f"name one as {HUB_PREFIX}owner/name:config:split, or give the folder of one"
            raise InputError(f"{self.location}: no split {split!r} but {found}; {remedy}")
        return loaded[split]


def hub_source(source: str) -> DatasetSource:
    """``hf:owner/name[:config[:split]]`` as a source; an empty config or split is the default one."""
    name = source.removeprefix(HUB_PREFIX)
    location, *rest = name.split(":")
    if not location or len(rest) > 2:
        raise InputError(f"{source}: not a hub dataset; write {HUB_PREFIX}owner/name:config:split")
    config, split = [*rest, "", ""][:2]
    return DatasetSource(name, location, config or None, split or None)
