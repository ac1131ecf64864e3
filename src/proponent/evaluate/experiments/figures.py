"""A figure of results that reads in black and white: markers and dashes tell the lines apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proponent.errors import InputError
from proponent.evaluate.metrics import Estimate
from proponent.files import written_whole

MARKERS = "osD^vXP*"
DASHES = ("-", "--", "-.", ":")

Line = Sequence[tuple[float, Estimate]]


@dataclass(frozen=True)
class Figure:
    """Lines with 95% intervals.

    lines: name → points (x, estimate).  log: whether x is logarithmic.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, Line]
    log: bool = False

    def write(self, folder: Path, name: str = "figure") -> None:
        """Write ``NAME.png`` and ``NAME.svg``; InputError where matplotlib is not installed."""
        try:
            import matplotlib as mpl
        except ImportError as error:
            raise InputError("figures need matplotlib: pip install 'proponent[experiments]'") from error
        mpl.use("Agg")
        from matplotlib import pyplot

        # no date and no random ids: the same results give the same files
        with mpl.rc_context({"svg.hashsalt": "proponent", "font.size": 10}):
            drawing, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
            for number, (label, points) in enumerate(self.lines.items()):
                xs = [x for x, _ in points]
                means = [e.mean for _, e in points]
                errors = [[e.mean - e.low for _, e in points], [e.high - e.mean for _, e in points]]
                shade = str(0.5 * number / max(1, len(self.lines) - 1)) if len(self.lines) > 1 else "0"
                axes.errorbar(
                    xs,
                    means,
                    yerr=errors,
                    label=label,
                    color=shade,
                    marker=MARKERS[number % len(MARKERS)],
                    linestyle=DASHES[number % len(DASHES)],
                    capsize=3,
                    markersize=5,
                )
            axes.set(title=self.title, xlabel=self.x, ylabel=self.y)
            if self.log:
                axes.set_xscale("log")
            axes.grid(alpha=0.3)
            axes.legend(frameon=False)
            for form, about in (("png", {"Software": None}), ("svg", {"Date": None})):
                with written_whole(folder / f"{name}.{form}") as aside:
                    drawing.savefig(aside, format=form, dpi=150, metadata=about)
            pyplot.close(drawing)
