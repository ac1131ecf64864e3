"""Figures of results that read in black and white: markers, dashes and hatches tell things apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proponent.errors import InputError
from proponent.evaluate.metrics import Estimate
from proponent.files import written_whole

MARKERS = "osD^vXP*"
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "", "...", "\\\\\\", "", "xxx", "---", "")
SIZE = (6.4, 4.4)  # inches
COLUMNS = 3  # of what things are called, below the figure

Line = Sequence[tuple[float, Estimate]]


@dataclass(frozen=True)
class Drawing(ABC):
    """What can be drawn and written, for a kind of figure to say how."""

    title: str

    @abstractmethod
    def draw(self, axes: Any) -> None:
        """Draw on matplotlib's axes, all but the title and what things are called."""

    def write(self, folder: Path, name: str = "figure") -> None:
        """Write ``NAME.png`` and ``NAME.svg``; InputError where matplotlib is not installed."""
        try:
            import matplotlib as mpl
        except ImportError as error:
            raise InputError("figures need matplotlib: pip install 'proponent[experiments]'") from error
        mpl.use("Agg")
        from matplotlib import pyplot

        # no date and no random ids: the same results give the same files
        with mpl.rc_context({"svg.hashsalt": "proponent", "font.size": 10, "hatch.linewidth": 0.6}):
            drawing, axes = pyplot.subplots(figsize=SIZE, layout="constrained")
            self.draw(axes)
            axes.set_title(self.title)
            drawing.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=COLUMNS)
            for form, about in (("png", {"Software": None}), ("svg", {"Date": None})):
                with written_whole(folder / f"{name}.{form}") as aside:
                    drawing.savefig(aside, format=form, dpi=150, metadata=about)
            pyplot.close(drawing)


@dataclass(frozen=True)
class Figure(Drawing):
    """Lines with 95% intervals.

    lines: name → points (x, estimate).  log: whether x is logarithmic.
    """

    x: str
    y: str
    lines: Mapping[str, Line]
    log: bool = False

    def draw(self, axes: Any) -> None:
        """Draw the lines."""
        for number, (label, points) in enumerate(self.lines.items()):
            means = [e.mean for _, e in points]
            errors = [[e.mean - e.low for _, e in points], [e.high - e.mean for _, e in points]]
            shade = str(0.5 * number / max(1, len(self.lines) - 1)) if len(self.lines) > 1 else "0"
            axes.errorbar(
                [x for x, _ in points],
                means,
                yerr=errors,
                label=label,
                color=shade,
                marker=MARKERS[number % len(MARKERS)],
                linestyle=DASHES[number % len(DASHES)],
                capsize=3,
                markersize=5,
            )
        axes.set(xlabel=self.x, ylabel=self.y)
        if self.log:
            axes.set_xscale("log")
        axes.grid(alpha=0.3)


@dataclass(frozen=True)
class StackedBars(Drawing):
    """A bar for each of several wholes, cut into the same parts.

    x: what the parts are measured in.  bars: name → part → its length.  A part that every bar lacks is left
    out.
    """

    x: str
    bars: Mapping[str, Mapping[str, float]]

    def draw(self, axes: Any) -> None:
        """Draw the bars, the first on top."""
        names = list(self.bars)
        named = dict.fromkeys(part for bar in self.bars.values() for part in bar)
        parts = [part for part in named if any(bar.get(part) for bar in self.bars.values())]
        ends = [0.0] * len(names)
        for number, part in enumerate(parts):
            lengths = [self.bars[name].get(part, 0.0) for name in names]
            shade = str(0.35 + 0.65 * number / max(1, len(parts) - 1))  # dark to white
            hatch = HATCHES[number % len(HATCHES)]
            axes.barh(names, lengths, left=ends, label=part, color=shade, hatch=hatch, edgecolor="black")
            ends = [end + length for end, length in zip(ends, lengths, strict=True)]
        axes.invert_yaxis()
        axes.set(xlabel=self.x, xlim=(0, max(ends, default=1.0)))
