"""What a benchmark found: figures with their intervals, floors, controls and bars, as a table and as JSON."""

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
HEADINGS: Final = ("figure", "ours", "floor", "result", "95 % interval", "bar", "verdict")


@attrs.frozen
class Interval:
    """A median and the 95 % interval around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], quantile: float = 0.5) -> Self:
        """Take it by order statistics: nothing is assumed of the distribution. Another *quantile* may be asked for."""
        ranked, count = sorted(values), len(values)
        spread = 1.96 * math.sqrt(count * quantile * (1 - quantile))
        low, high = math.floor(count * quantile - spread), math.ceil(count * quantile + spread) - 1
        middle = statistics.median(ranked) if quantile == 0.5 else ranked[int(count * quantile)]
        return cls(middle, ranked[max(0, low)], ranked[min(count - 1, high)])

    @classmethod
    def ratio(cls, ours: Sequence[float], floor: Sequence[float]) -> Self:
        """Take it of the ratios of what was measured side by side."""
        return cls.of([mine / other for mine, other in zip(ours, floor, strict=True)])

    @classmethod
    def exactly(cls, value: float) -> Self:
        """Say that there is one value, and no interval."""
        return cls(value, value, value)


@attrs.frozen
class Figure:
    """One result, and what it must not exceed: `bar`, if there is one. The unit "x" stands for a ratio to `floor`.

    `ours` and `floor` are the two sides of it in `measure`, where there are two; `beside` says what the floor is.
    `control` is the ratio of the floor to itself, measured in the same run: off by more than 2 %, the run is void.
    """

    name: str
    result: Interval
    unit: str = "x"
    bar: float | None = None
    ours: float | None = None
    floor: float | None = None
    measure: str = ""
    beside: str = ""
    control: Interval | None = None

    @property
    def void(self) -> bool:
        """Whether the machine was too busy for it to count."""
        return self.control is not None and abs(self.control.median - 1) > TOLERANCE

    @property
    def verdict(self) -> str:
        """Say whether the upper end of the interval keeps to the bar."""
        if self.void:
            return "VOID"
        if self.bar is None:
            return "no bar"
        return "within" if self.result.high <= self.bar else "MISSED"

    def row(self) -> tuple[str, ...]:
        """Return the cells of the table, under `HEADINGS`."""
        unit = "" if self.unit == "x" else f" {self.unit}"
        alone = self.result.low == self.result.high
        return (
            self.name,
            "" if self.ours is None else f"{short(self.ours)} {self.measure}",
            "" if self.floor is None else f"{short(self.floor)} {self.measure}",
            short(self.result.median) + unit,
            "" if alone else f"{short(self.result.low)} to {short(self.result.high)}",
            "" if self.bar is None else f"{self.bar:g}{unit}",
            self.verdict,
        )


@attrs.frozen
class Run:
    """One run of one benchmark: which, on what, and what came out."""

    benchmark: str
    machine: str
    date: str
    figures: tuple[Figure, ...]

    @property
    def void(self) -> bool:
        """Whether any of its figures is."""
        return any(figure.void for figure in self.figures)


def read_runs(path: Path) -> list[Run]:
    """Return the runs in a file; none if it is not there."""
    return cattrs.structure(orjson.loads(path.read_bytes()), list[Run]) if path.exists() else []


def write_runs(path: Path, runs: Iterable[Run]) -> None:
    """Let a file hold these runs and no others."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    path.write_bytes(orjson.dumps([attrs.asdict(run) for run in runs], option=options))


def short(value: float) -> str:
    """Write a number with three digits that count, four if it begins with 1."""
    if value == 0:
        return "0"
    digits = 3 if str(f"{abs(value):e}").startswith("1") else 2
    return f"{value:,.{max(0, digits - math.floor(math.log10(abs(value))))}f}"


def table(figures: Iterable[Figure]) -> list[tuple[str, ...]]:
    """Return the headings and the rows."""
    return [HEADINGS, *(figure.row() for figure in figures)]


def as_text(figures: Sequence[Figure]) -> str:
    """Lay the table out for a terminal, the controls below it."""
    rows = table(figures)
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *_footnotes(figures)])


def as_markdown(figures: Sequence[Figure]) -> str:
    """Lay the table out for README.md."""
    head, *rows = (f"| {' | '.join(row)} |" for row in table(figures))
    rule = "|" + " --- |" * len(HEADINGS)
    return "\n".join([head, rule, *rows, "", *_footnotes(figures)])


def _footnotes(figures: Sequence[Figure]) -> list[str]:
    beside = dict.fromkeys(figure.beside for figure in figures if figure.beside)
    controls = {attrs.astuple(figure.control): figure.control for figure in figures if figure.control}
    said = [f"{each.median:.3f} ({each.low:.3f} to {each.high:.3f})" for each in controls.values()]
    floors = [f"Floor: {'; '.join(beside)}."] if beside else []
    return floors + ([f"Control, floor / floor: {', '.join(said)}."] if said else [])
