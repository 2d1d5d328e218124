"""Tests of the benchmarks: the scripts run, and measured figures are evaluated correctly. No test checks a duration."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import attrs
import pytest

DIRECTORY = Path(__file__).parent.parent / "benchmarks"
RUN_ALL = DIRECTORY / "__main__.py"
BENCHMARKS_PATTERN = re.compile(r"^BENCHMARKS: Final = (\(.*?^\))", re.MULTILINE | re.DOTALL)
README = (DIRECTORY / "README.md").read_text(encoding="utf-8")
BENCHMARKS = ast.literal_eval(BENCHMARKS_PATTERN.search(RUN_ALL.read_text(encoding="utf-8"))[1])


@pytest.fixture
def figures(monkeypatch):
    """Return the module of the figures; the scripts import each other from their directory."""
    monkeypatch.syspath_prepend(DIRECTORY)
    return importlib.import_module("figures")


@pytest.fixture
def run_all(figures):
    """Return the module that runs all benchmarks."""
    spec = spec_from_file_location("run_all", RUN_ALL)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def new_figure(figures):
    """Return a function that creates figures, by default from 1.0 to 1.2 with the limit 1.3 and a control of 1."""

    def create(**changes):
        default = figures.Figure(
            "a call", figures.Interval(1.1, 1.0, 1.2), limit=1.3, control=figures.Interval.exact(1)
        )
        return attrs.evolve(default, **changes)

    return create


# The others start many processes; tests/soak runs programs like them.
QUICK = [benchmark for benchmark in BENCHMARKS if benchmark not in ("hosts", "hosts --takeover", "hosts --waiting")]


@pytest.mark.parametrize("benchmark", QUICK)
def test_quick_run_prints_and_stores_figures(benchmark, figures, tmp_path):
    """With --quick, every benchmark runs in seconds, prints each of its figures, and stores them."""
    script, *options = benchmark.split()
    command = [sys.executable, DIRECTORY / f"{script}.py", *options, "--quick", "--json", tmp_path / "runs.json"]
    # The timeout only ends a hanging process.
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    (run,) = figures.read_runs(tmp_path / "runs.json")
    assert run.benchmark == benchmark
    assert run.figures
    lines = [line.split() for line in output.splitlines()]
    assert all(" ".join(figure.row()).split() in lines for figure in run.figures)


def test_every_benchmark_is_listed_and_has_markers_in_the_readme():
    """A script that measures is in the list of benchmarks, and README.md has a place for its figures."""
    scripts = {path.stem for path in DIRECTORY.glob("*.py") if "main(__doc__, measure" in path.read_text("utf-8")}
    assert scripts == {benchmark.split()[0] for benchmark in BENCHMARKS}
    assert all(f"<!-- figures of {benchmark} -->" in README for benchmark in BENCHMARKS)


def test_tables_of_the_readme_contain_the_stored_figures(run_all, figures):
    """README.md shows the figures of figures.json."""
    assert run_all.insert_tables(README, figures.read_runs(DIRECTORY / "figures.json")) == README


def test_interval_contains_the_median_of_95_samples_in_100(figures):
    """The interval of a hundred values is from the 41st to the 60th, independent of the values outside."""
    values = [*range(40), 40.0, *[50.0] * 18, 59.0, *[1e9] * 40]
    assert figures.Interval.of(values) == figures.Interval(50.0, 40.0, 59.0)


def test_extreme_quantile_has_its_own_interval(figures):
    """The interval of the p99 of a thousand values is from the 984th to the 997th."""
    assert figures.Interval.of(range(1, 1001), 0.99) == figures.Interval(991, 984, 997)


@pytest.mark.parametrize(
    ("changes", "status"),
    [({}, "ok"), ({"limit": 1.2}, "ok"), ({"limit": 1.15}, "EXCEEDED"), ({"limit": None}, "no limit")],
)
def test_limit_applies_to_the_upper_end_of_the_interval(new_figure, changes, status):
    """A figure exceeds its limit if the upper end of its interval does, even if the median does not."""
    assert new_figure(**changes).status == status


@pytest.mark.parametrize(("control", "invalid"), [(0.981, False), (1.019, False), (0.979, True), (1.021, True)])
def test_run_is_invalid_if_a_control_deviates_by_more_than_two_percent(figures, new_figure, control, invalid):
    """One figure whose control deviates makes the run invalid, even if the figure is within its limit."""
    figure = new_figure(control=figures.Interval.exact(control))
    assert figure.invalid is invalid
    assert (figure.status == "INVALID") is invalid
    assert figures.Run("calls", "a machine", "2026-01-01", (new_figure(), figure)).invalid is invalid


@pytest.mark.parametrize(("exit_code", "runs"), [(0, 1), (1, 1), (3, 4)])
def test_only_an_invalid_run_is_repeated(run_all, monkeypatch, tmp_path, exit_code, runs):
    """A script that exits with 3 runs four times in all; one that succeeds or fails runs once."""
    trace = tmp_path / "trace"
    script = f"import sys\nopen({str(trace)!r}, 'a').write('x')\nsys.exit({exit_code})"
    (tmp_path / "calls.py").write_text(script)
    monkeypatch.setattr(run_all, "HERE", tmp_path)
    assert run_all.run_benchmark("calls", []) is None
    assert len(trace.read_text()) == runs


def test_new_figures_replace_only_those_of_the_same_benchmark(run_all, figures, new_figure, tmp_path):
    """The newest figures of every benchmark are stored as JSON, in the tables of README.md, and as a picture."""
    page = tmp_path / "README.md"
    page.write_text("".join(f"<!-- figures of {name} -->\nold\n<!-- end -->\n" for name in ("clients", "waiters")))

    def run(benchmark, **changes):
        return figures.Run(benchmark, "a machine", "2026-01-01", (new_figure(**changes),))

    run_all.store([run("waiters", unit="KB"), run("clients", name="slow")], tmp_path)
    run_all.store([run("clients", name="quick")], tmp_path)
    stored = figures.read_runs(tmp_path / "figures.json")
    assert [(each.benchmark, each.figures[0].name) for each in stored] == [("clients", "quick"), ("waiters", "a call")]
    clients, waiters, _ = page.read_text().split("<!-- end -->")
    assert "| quick |" in clients
    assert "1.100 KB" in waiters
    assert "old" not in clients + waiters
    assert "<svg" in (tmp_path / "figures.svg").read_text()


def test_altered_pushes_get_one_answer_in_a_smoke_run():
    """Their times are compared in a full run only."""
    command = [sys.executable, DIRECTORY / "push_oracle.py", "--smoke"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    assert "altered pushes, answers: ['200 success']" in printed


def test_turns_of_a_listing_are_measured_in_a_smoke_run():
    """Their time is compared with the limit in a full run only."""
    command = [sys.executable, DIRECTORY / "listing_turns.py", "--smoke"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    assert "longest turn: median" in printed
