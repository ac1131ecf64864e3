"""Numbers and seconds as a reader sees them."""

from __future__ import annotations

UNITS = ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
INSTANT = 5e-4  # seconds that are shown as none
TIMES = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def short(number: float, unit: str = "") -> str:
    """A number with three digits, the prefix of its size and its unit."""
    size, prefix = next(((size, prefix) for size, prefix in UNITS if number >= size), (1.0, ""))
    return f"{number / size:.3g} {prefix}{unit}".rstrip()


def lasting(seconds: float) -> str:
    """Seconds in the largest unit that they are one of."""
    size, unit = next(((size, unit) for size, unit in TIMES if seconds >= size), TIMES[-1])
    return f"{seconds / size:.3g} {unit}" if seconds >= INSTANT else "0 s"
