"""Results of benchmarks: figures with intervals, baselines, controls and limits; as tables and as JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Self

import attrs
import cattrs
import orjson

TOLERANCE: Final = 0.02
HEADINGS: Final = ("figure", "wxtcb", "baseline", "result", "95 % interval", "limit", "status")


@attrs.frozen
class Interval:
    """A median, or another quantile, and the 95 % interval around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], quantile: float = 0.5) -> Self:
        """Return the *quantile* of *values*, with an interval by order statistics, which assume no distribution."""
        ranked, count = sorted(values), len(values)
        spread = 1.96 * math.sqrt(count * quantile * (1 - quantile))
        low, high = math.floor(count * quantile - spread), math.ceil(count * quantile + spread) - 1
        middle = statistics.median(ranked) if quantile == 0.5 else ranked[int(count * quantile)]
        return cls(middle, ranked[max(0, low)], ranked[min(count - 1, high)])

    @classmethod
    def ratio(cls, values: Sequence[float], baseline: Sequence[float]) -> Self:
        """Return the median ratio of *values* to *baseline*, pair by pair."""
        return cls.of([value / other for value, other in zip(values, baseline, strict=True)])

    @classmethod
    def exact(cls, value: float) -> Self:
        """Return an interval that contains one value only."""
        return cls(value, value, value)


@attrs.frozen
class Figure:
    """One result, and the *limit* that it must not exceed, if there is one.

    The unit "x" means that the result is the ratio of *value* to *baseline*, which are both in *value_unit*.
    *control* is the ratio of the baseline to a second measurement of it in the same run.
    """

    name: str
    result: Interval
    unit: str = "x"
    limit: float | None = None
    value: float | None = None
    baseline: float | None = None
    value_unit: str = ""
    baseline_name: str = ""
    control: Interval | None = None

    @property
    def invalid(self) -> bool:
        """Whether the control shows that the machine was too busy for a measurement."""
        return self.control is not None and abs(self.control.median - 1) > TOLERANCE

    @property
    def status(self) -> str:
        """Result of the comparison of the upper end of the interval with the limit."""
        if self.invalid:
            return "INVALID"
        if self.limit is None:
            return "no limit"
        return "ok" if self.result.high <= self.limit else "EXCEEDED"

    def row(self) -> tuple[str, ...]:
        """Return the cells of the table, under `HEADINGS`."""
        unit = "" if self.unit == "x" else f" {self.unit}"
        is_exact = self.result.low == self.result.high
        return (
            self.name,
            "" if self.value is None else f"{format_number(self.value)} {self.value_unit}",
            "" if self.baseline is None else f"{format_number(self.baseline)} {self.value_unit}",
            format_number(self.result.median) + unit,
            "" if is_exact else f"{format_number(self.result.low)} to {format_number(self.result.high)}",
            "" if self.limit is None else f"{self.limit:g}{unit}",
            self.status,
        )


@attrs.frozen
class Run:
    """One run of one benchmark: its name, machine, date (YYYY-MM-DD) and figures."""

    benchmark: str
    machine: str
    date: str
    figures: tuple[Figure, ...]

    @property
    def invalid(self) -> bool:
        """Whether any of its figures is invalid."""
        return any(figure.invalid for figure in self.figures)


def read_runs(path: Path) -> list[Run]:
    """Return the runs in a file, or an empty list if the file does not exist."""
    return cattrs.structure(orjson.loads(path.read_bytes()), list[Run]) if path.exists() else []


def write_runs(path: Path, runs: Iterable[Run]) -> None:
    """Replace the contents of a file by *runs*."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    path.write_bytes(orjson.dumps([attrs.asdict(run) for run in runs], option=options))


def format_number(value: float) -> str:
    """Return *value* with three significant digits, or four if it begins with 1."""
    if value == 0:
        return "0"
    digits = 3 if f"{abs(value):e}".startswith("1") else 2
    return f"{value:,.{max(0, digits - math.floor(math.log10(abs(value))))}f}"


def render_text(figures: Sequence[Figure]) -> str:
    """Return the table for a terminal, with the baselines and controls below it."""
    rows = _rows(figures)
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *_footnotes(figures)])


def render_markdown(figures: Sequence[Figure]) -> str:
    """Return the table for README.md, with the baselines and controls below it."""
    header, *rows = (f"| {' | '.join(row)} |" for row in _rows(figures))
    delimiter = "|" + " --- |" * len(HEADINGS)
    return "\n".join([header, delimiter, *rows, "", *_footnotes(figures)]).rstrip()


def _rows(figures: Iterable[Figure]) -> list[tuple[str, ...]]:
    return [HEADINGS, *(figure.row() for figure in figures)]


def _footnotes(figures: Sequence[Figure]) -> list[str]:
    names = dict.fromkeys(figure.baseline_name for figure in figures if figure.baseline_name)
    controls = {attrs.astuple(figure.control): figure.control for figure in figures if figure.control}
    ratios = [f"{each.median:.3f} ({each.low:.3f} to {each.high:.3f})" for each in controls.values()]
    lines = [f"Baseline: {'; '.join(names)}."] if names else []
    return lines + ([f"Control, baseline / baseline: {', '.join(ratios)}."] if ratios else [])
