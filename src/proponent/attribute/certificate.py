"""What is certain of a hit whose passages were found through the codes of a compact index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from proponent.corpus.records import Record
from proponent.errors import InputError

FIELD = "certificate"


@dataclass(frozen=True)
class Certificate:
    """How far a hit is what a scan of the full run would find, scores included.

    confidence: probability that all of this holds; 1.0 where it is sure.  rows, read: of the full run, and
    how many of them were read.  proponents, opponents: so many, from the first, are certain to be among the
    k best of all rows.  above, below: no row that was not read scores higher, or lower; None where all were.
    """

    confidence: float
    rows: int
    read: int
    proponents: int
    opponents: int
    above: float | None
    below: float | None

    @property
    def values(self) -> dict[str, Any]:
        """Its fields as plain values."""
        return asdict(self)

    @classmethod
    def of(cls, record: Record) -> Certificate | None:
        """The certificate in a result record; None where there is none, InputError for what is none."""
        found = record.fields.get(FIELD)
        if found is None:
            return None
        counts = ("rows", "read", "proponents", "opponents")
        if not isinstance(found, Mapping) or set(found) != set(cls.__dataclass_fields__):
            raise InputError(f"{record.place}: the field '{FIELD}' is not what a certified trace writes")
        if not all(type(found[name]) is int and found[name] >= 0 for name in counts):
            raise InputError(f"{record.place}: the counts of the field '{FIELD}' must be numbers from 0 up")
        sizes = [
            found["confidence"],
            *(found[name] for name in ("above", "below") if found[name] is not None),
        ]
        if not all(type(value) in (int, float) for value in sizes):
            raise InputError(f"{record.place}: confidence and bounds of the field '{FIELD}' must be numbers")
        return cls(**found)

    def sentence(self, proponents: int, opponents: int) -> str:
        """It in words, for a hit with so many proponents and opponents."""
        sure = "" if self.confidence == 1 else f", with probability {self.confidence:g}"
        read = f"{self.read:,} of {self.rows:,} rows were read"
        if (self.proponents, self.opponents) == (proponents, opponents):
            return f"Certified{sure}: a scan of the full run finds the same; {read}."
        left = [] if self.above is None or self.proponents == proponents else [f"above {self.above:+.4f}"]
        left += [] if self.below is None or self.opponents == opponents else [f"below {self.below:+.4f}"]
        return (
            f"Stopped early{sure}: the first {self.proponents} proponents and {self.opponents} opponents are "
            f"certain, and no other passage scores {' or '.join(left)}; {read}."
        )
