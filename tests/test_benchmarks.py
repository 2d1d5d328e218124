"""The benchmarks work, and judge what they measured; how fast anything is, is no test's business."""

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

PLACE = Path(__file__).parent.parent / "benchmarks"
ALL = PLACE / "__main__.py"
LISTED = re.compile(r"^BENCHMARKS: Final = (\(.*?^\))", re.MULTILINE | re.DOTALL)
README = (PLACE / "README.md").read_text(encoding="utf-8")
BENCHMARKS = ast.literal_eval(LISTED.search(ALL.read_text(encoding="utf-8"))[1])


@pytest.fixture
def figures(monkeypatch):
    """Give the module of the figures; the scripts stand side by side, and import each other so."""
    monkeypatch.syspath_prepend(PLACE)
    return importlib.import_module("figures")


@pytest.fixture
def everything(figures):
    """Give the module that runs all benchmarks."""
    spec = spec_from_file_location("everything", ALL)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def new_figure(figures):
    """Give a function that makes figures, from 1.0 to 1.2 with a bar at 1.3 and a good control."""

    def make(**changes):
        usual = figures.Figure("a call", figures.Interval(1.1, 1.0, 1.2), bar=1.3, control=figures.Interval.exactly(1))
        return attrs.evolve(usual, **changes)

    return make


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_benchmark_prints_its_figures_in_a_quick_run(benchmark, figures, tmp_path):
    """Every benchmark runs in seconds with --quick, prints each of its figures and keeps them."""
    script, *options = benchmark.split()
    command = [sys.executable, PLACE / f"{script}.py", *options, "--quick", "--json", tmp_path / "runs.json"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    (run,) = figures.read_runs(tmp_path / "runs.json")
    assert run.benchmark == benchmark
    assert run.figures
    lines = [line.split() for line in printed.splitlines()]
    assert all(" ".join(figure.row()).split() in lines for figure in run.figures)


def test_every_benchmark_is_run_by_all_and_has_its_place_in_the_readme():
    """A script that measures is in the list of those to run, and its figures are shown."""
    scripts = {path.stem for path in PLACE.glob("*.py") if "main(__doc__, measure" in path.read_text("utf-8")}
    assert scripts == {benchmark.split()[0] for benchmark in BENCHMARKS}
    assert all(f"<!-- figures of {benchmark} -->" in README for benchmark in BENCHMARKS)


def test_interval_holds_the_median_of_95_samples_in_100(figures):
    """The interval of a hundred values reaches from the 41st to the 60th, whatever lies outside."""
    values = [*range(40), 40.0, *[50.0] * 18, 59.0, *[1e9] * 40]
    assert figures.Interval.of(values) == figures.Interval(50.0, 40.0, 59.0)


def test_quantile_near_the_end_has_an_interval_of_its_own(figures):
    """The p99 of a thousand values lies between the 984th and the 997th."""
    interval = figures.Interval.of(range(1, 1001), 0.99)
    assert interval == figures.Interval(991, 984, 997)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [({}, "within"), ({"bar": 1.2}, "within"), ({"bar": 1.15}, "MISSED"), ({"bar": None}, "no bar")],
)
def test_bar_is_kept_by_the_upper_end_of_the_interval(new_figure, changes, verdict):
    """A median below the bar is not enough."""
    assert new_figure(**changes).verdict == verdict


@pytest.mark.parametrize(("control", "void"), [(0.981, False), (1.019, False), (0.979, True), (1.021, True)])
def test_run_is_void_when_control_is_off_by_more_than_two_percent(figures, new_figure, control, void):
    """One figure whose control is off makes the run void, within its bar or not."""
    figure = new_figure(control=figures.Interval.exactly(control))
    assert figure.void is void
    assert (figure.verdict == "VOID") is void
    assert figures.Run("calls", "a machine", "2026-01-01", (new_figure(), figure)).void is void


@pytest.mark.parametrize(("status", "runs"), [(0, 1), (1, 1), (3, 4)])
def test_void_run_is_repeated_three_times_and_no_other(everything, monkeypatch, tmp_path, status, runs):
    """A script that exits with 3 is run four times in all; one that ends well or fails, once."""
    trace = tmp_path / "trace"
    script = f"import sys\nopen({str(trace)!r}, 'a').write('x')\nsys.exit({status})"
    (tmp_path / "calls.py").write_text(script)
    monkeypatch.setattr(everything, "HERE", tmp_path)
    assert everything.run_until_steady("calls", []) is None
    assert len(trace.read_text()) == runs


def test_new_figures_take_the_place_of_old_ones_and_leave_the_others(everything, figures, new_figure, tmp_path):
    """Kept are the newest figures of every benchmark: as JSON, in the page between its markers, and as a picture."""
    page = tmp_path / "README.md"
    page.write_text("".join(f"<!-- figures of {name} -->\nold\n<!-- end -->\n" for name in ("clients", "waiters")))

    def run(benchmark, **changes):
        return figures.Run(benchmark, "a machine", "2026-01-01", (new_figure(**changes),))

    everything.keep([run("waiters", unit="KB"), run("clients", name="slow")], tmp_path)
    everything.keep([run("clients", name="quick")], tmp_path)
    kept = figures.read_runs(tmp_path / "figures.json")
    assert [(each.benchmark, each.figures[0].name) for each in kept] == [("clients", "quick"), ("waiters", "a call")]
    clients, waiters, _ = page.read_text().split("<!-- end -->")
    assert "| quick |" in clients
    assert "1.100 KB" in waiters
    assert "old" not in clients + waiters
    assert "<svg" in (tmp_path / "figures.svg").read_text()


def test_script_about_answers_to_altered_pushes_works():
    """All of them get one answer; times are compared in a full run only."""
    command = [sys.executable, PLACE / "push_oracle.py", "--smoke"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    assert "altered pushes, answers: ['200 success']" in printed
