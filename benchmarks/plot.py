"""Draw the stored figures: the ratio of each to its baseline, and its limit.

The top panel shows the calls relative to the tuned loop, on a linear axis from 0. The middle panel shows all other
ratios to a baseline; the bottom panel shows all other figures with a limit, as a fraction of the limit. Both have
logarithmic axes. Whiskers are 95 % intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import matplotlib as mpl
from figures import TOLERANCE, Figure, Interval, Run, format_number, read_runs
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

HERE: Final = Path(__file__).parent
COLOURS: Final = {"ok": "#1b7f79", "EXCEEDED": "#d1495b", "no limit": "#8a8f98", "INVALID": "#8a8f98"}
TEXT_COLOUR: Final = "#22272e"
GRID_COLOUR: Final = "#e4e7eb"
ROW_HEIGHT: Final = 0.24  # inches
MIN_FRACTION: Final = 0.02


@attrs.frozen
class Line:
    """One line of a panel: its label, the text at its right end, the interval, the limit and the status."""

    label: str
    text: str
    interval: Interval
    limit: float | None
    status: str


def ratio_line(figure: Figure) -> Line:
    """Return the line of a ratio."""
    return Line(figure.name, f"{format_number(figure.result.median)} x", figure.result, figure.limit, figure.status)


def limit_line(figure: Figure) -> Line:
    """Return the line of a figure as a fraction of its limit."""
    limit = figure.limit or 1.0
    # A logarithmic axis cannot show 0, and a very small fraction would widen it.
    interval = Interval(*(max(MIN_FRACTION, value / limit) for value in attrs.astuple(figure.result)))
    text = f"{format_number(figure.result.median)} of {figure.limit:g} {figure.unit}"
    return Line(figure.name, text, interval, None, figure.status)


@attrs.frozen
class Panel:
    """A part of the picture: lines under the names of their benchmarks."""

    title: str
    groups: dict[str, list[Line]]
    log: bool

    @property
    def height(self) -> int:
        """Number of rows."""
        return sum(1 + len(lines) for lines in self.groups.values()) + 1

    def draw(self, axes: Axes) -> None:
        """Draw the panel from top to bottom."""
        row, ticks = 0, []
        for heading, lines in self.groups.items():
            text_options: dict[str, Any] = {
                "transform": axes.get_yaxis_transform(),
                "ha": "right",
                "va": "center",
                "weight": "bold",
            }
            axes.text(-0.01, row, heading, **text_options)
            for number, line in enumerate(lines, row + 1):
                _draw_line(axes, number, line)
                ticks.append((number, line.label))
            row += len(lines) + 1
        axes.axvline(1, color=TEXT_COLOUR, linewidth=1, zorder=1)
        axes.set_yticks(*zip(*ticks, strict=True))
        axes.set_ylim(row - 0.3, -0.7)
        axes.set_title(self.title, loc="left", fontsize=11, weight="bold", color=TEXT_COLOUR, pad=8)
        _format_axes(axes, log=self.log)


def _draw_line(axes: Axes, row: int, line: Line) -> None:
    colour = COLOURS[line.status]
    axes.hlines(row, line.interval.low, line.interval.high, color=colour, linewidth=2.4, zorder=2)
    face = "white" if line.status == "INVALID" else colour
    axes.plot(line.interval.median, row, "o", markersize=5.5, color=colour, markerfacecolor=face, zorder=3)
    if line.limit is not None:
        axes.vlines(line.limit, row - 0.36, row + 0.36, color=TEXT_COLOUR, linewidth=2.2, zorder=2)
    axes.text(1.01, row, line.text, transform=axes.get_yaxis_transform(), va="center", color=colour)


def _format_axes(axes: Axes, *, log: bool) -> None:
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(left=0)
        axes.axvspan(1 - TOLERANCE, 1 + TOLERANCE, color=GRID_COLOUR, zorder=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="x", color=GRID_COLOUR, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=TEXT_COLOUR)
    axes.spines[:].set_visible(False)


def _legend() -> list[Line2D]:
    markers = [
        Line2D([], [], color=COLOURS[status], marker="o", label=label)
        for status, label in (("ok", "within its limit"), ("EXCEEDED", "limit exceeded"), ("no limit", "no limit"))
    ]
    invalid = Line2D([], [], color=COLOURS["INVALID"], marker="o", markerfacecolor="white", label="invalid run")
    limit = Line2D(
        [], [], color=TEXT_COLOUR, marker="|", markersize=9, markeredgewidth=2.2, linestyle="", label="limit"
    )
    return [*markers, invalid, limit]


def make_panels(runs: Sequence[Run]) -> list[Panel]:
    """Return the panels that have at least one line."""

    def select(
        make_line: Callable[[Figure], Line], is_selected: Callable[[Run, Figure], object]
    ) -> dict[str, list[Line]]:
        lines = {run.benchmark: [make_line(each) for each in run.figures if is_selected(run, each)] for run in runs}
        return {benchmark: each for benchmark, each in lines.items() if each}

    calls = select(ratio_line, lambda run, each: each.unit == "x" and run.benchmark == "call_overhead")
    ratios = select(ratio_line, lambda run, each: each.unit == "x" and run.benchmark != "call_overhead")
    fractions = select(limit_line, lambda _, each: each.unit != "x" and each.limit)
    panels = [
        Panel("CPU time of a call, relative to the tuned loop (1)", calls, log=False),
        Panel("Other figures, relative to their baselines (1)", ratios, log=True),
        Panel("Other figures, relative to their limits (1)", fractions, log=True),
    ]
    return [panel for panel in panels if panel.groups]


def draw_picture(runs: Sequence[Run], path: Path) -> None:
    """Draw the runs into a file, in the format of its suffix."""
    panels = make_panels(runs)
    heights = [panel.height for panel in panels]
    # Without the salt, the ids in the SVG differ from run to run.
    mpl.rcParams.update({"font.size": 9, "svg.hashsalt": "wxtcb", "text.color": TEXT_COLOUR})
    size = (10, ROW_HEIGHT * sum(heights) + 2)
    figure, grid = plt.subplots(len(heights), figsize=size, height_ratios=heights, layout="constrained", squeeze=False)
    for panel, axes in zip(panels, grid.flat, strict=True):
        panel.draw(axes)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Draw figures.json into figures.svg, or other files that are named as arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=HERE / "figures.json", metavar="PATH", help="file with the runs")
    parser.add_argument("picture", type=Path, nargs="?", default=HERE / "figures.svg", help="SVG, PNG or PDF")
    options = parser.parse_args()
    draw_picture(read_runs(options.json), options.picture)


if __name__ == "__main__":
    main()
