"""Draw the figures that were kept: what costs how much beside its floor, and what keeps to its bar.

At the top, a call beside the tuned loop, on an axis that begins at 0. In the middle all other ratios to a floor, at the
bottom everything else that has a bar, as a part of that bar, both on logarithmic axes. Whiskers are 95 % intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import matplotlib as mpl
from figures import TOLERANCE, Figure, Interval, Run, read_runs, short
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

HERE: Final = Path(__file__).parent
COLOURS: Final = {"within": "#1b7f79", "MISSED": "#d1495b", "no bar": "#8a8f98", "VOID": "#8a8f98"}
INK: Final = "#22272e"
GRID: Final = "#e4e7eb"
ROW: Final = 0.24
LEAST: Final = 0.02


@attrs.frozen
class Line:
    """One line of the picture: where its mark and its bar stand, and what is said of it."""

    label: str
    said: str
    at: Interval
    bar: float | None
    verdict: str


def beside_floor(figure: Figure) -> Line:
    """Show a ratio as it is."""
    return Line(figure.name, f"{short(figure.result.median)} x", figure.result, figure.bar, figure.verdict)


def beside_bar(figure: Figure) -> Line:
    """Show what was measured as a part of its bar."""
    bar = figure.bar or 1.0
    at = Interval(*(max(LEAST, value / bar) for value in attrs.astuple(figure.result)))
    said = f"{short(figure.result.median)} of {figure.bar:g} {figure.unit}"
    return Line(figure.name, said, at, None, figure.verdict)


@attrs.frozen
class Panel:
    """A part of the picture: lines under the headings of their benchmarks."""

    title: str
    groups: dict[str, list[Line]]
    log: bool

    @property
    def height(self) -> int:
        """The number of rows."""
        return sum(1 + len(lines) for lines in self.groups.values()) + 1

    def draw(self, axes: Axes) -> None:
        """Draw it, from the top down."""
        row, ticks = 0, []
        for heading, lines in self.groups.items():
            place: dict[str, Any] = {
                "transform": axes.get_yaxis_transform(),
                "ha": "right",
                "va": "center",
                "weight": "bold",
            }
            axes.text(-0.01, row, heading, **place)
            for number, line in enumerate(lines, row + 1):
                _draw_line(axes, number, line)
                ticks.append((number, line.label))
            row += len(lines) + 1
        axes.axvline(1, color=INK, linewidth=1, zorder=1)
        axes.set_yticks(*zip(*ticks, strict=True))
        axes.set_ylim(row - 0.3, -0.7)
        axes.set_title(self.title, loc="left", fontsize=11, weight="bold", color=INK, pad=8)
        _dress(axes, log=self.log)


def _draw_line(axes: Axes, row: int, line: Line) -> None:
    colour = COLOURS[line.verdict]
    axes.hlines(row, line.at.low, line.at.high, color=colour, linewidth=2.4, zorder=2)
    face = "white" if line.verdict == "VOID" else colour
    axes.plot(line.at.median, row, "o", markersize=5.5, color=colour, markerfacecolor=face, zorder=3)
    if line.bar is not None:
        axes.vlines(line.bar, row - 0.36, row + 0.36, color=INK, linewidth=2.2, zorder=2)
    axes.text(1.01, row, line.said, transform=axes.get_yaxis_transform(), va="center", color=colour)


def _dress(axes: Axes, *, log: bool) -> None:
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(left=0)
        axes.axvspan(1 - TOLERANCE, 1 + TOLERANCE, color=GRID, zorder=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)


def _legend() -> list[Line2D]:
    marks = [
        Line2D([], [], color=COLOURS[verdict], marker="o", label=label)
        for verdict, label in (("within", "within its bar"), ("MISSED", "not within its bar"), ("no bar", "no bar"))
    ]
    void = Line2D([], [], color=COLOURS["VOID"], marker="o", markerfacecolor="white", label="void")
    bar = Line2D([], [], color=INK, marker="|", markersize=9, markeredgewidth=2.2, linestyle="", label="bar")
    return [*marks, void, bar]


def panels(runs: Sequence[Run]) -> list[Panel]:
    """Lay out the runs; a panel without lines is left out."""

    def pick(show: Callable[[Figure], Line], choose: Callable[[Run, Figure], object]) -> dict[str, list[Line]]:
        found = {run.benchmark: [show(each) for each in run.figures if choose(run, each)] for run in runs}
        return {benchmark: lines for benchmark, lines in found.items() if lines}

    calls = pick(beside_floor, lambda run, each: each.unit == "x" and run.benchmark == "call_overhead")
    others = pick(beside_floor, lambda run, each: each.unit == "x" and run.benchmark != "call_overhead")
    barred = pick(beside_bar, lambda _, each: each.unit != "x" and each.bar)
    laid_out = [
        Panel("A call beside the tuned bare loop (1): processor time", calls, log=False),
        Panel("Other things beside their floors (1): processor time", others, log=True),
        Panel("Everything else beside its bar (1)", barred, log=True),
    ]
    return [panel for panel in laid_out if panel.groups]


def picture(runs: Sequence[Run], path: Path) -> None:
    """Draw the runs into a file, in the format that its name ends with."""
    laid_out = panels(runs)
    heights = [panel.height for panel in laid_out]
    mpl.rcParams.update({"font.size": 9, "svg.hashsalt": "wxtcb", "text.color": INK})
    size = (10, ROW * sum(heights) + 2)
    figure, axes = plt.subplots(len(heights), figsize=size, height_ratios=heights, layout="constrained", squeeze=False)
    for panel, place in zip(laid_out, axes.flat, strict=True):
        panel.draw(place)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Draw figures.json into figures.svg, or other files that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=HERE / "figures.json", metavar="PATH", help="what to draw")
    parser.add_argument("picture", type=Path, nargs="?", default=HERE / "figures.svg", help="SVG, PNG or PDF")
    chosen = parser.parse_args()
    picture(read_runs(chosen.json), chosen.picture)


if __name__ == "__main__":
    main()
