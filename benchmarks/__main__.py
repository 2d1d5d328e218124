"""Run all benchmarks, or the named ones, one after the other.

An invalid run is repeated, up to three times. At the end, the figures are printed, stored in figures.json, written into
README.md and drawn in figures.svg. With `--quick`, nothing is stored.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from figures import Run, read_runs, render_markdown, render_text, write_runs
from harness import EXIT_INVALID

HERE: Final = Path(__file__).parent
BENCHMARKS: Final = (
    "call_overhead",
    "hook_overhead",
    "clients",
    "serialization",
    "large_reply",
    "token_get",
    "waiters",
    "tenants",
    "tenants --cpu",
    "tenants --slow",
    "journal",
    "journal --plan",
    "postgres_journal",
    "hosts",
    "hosts --waiting",
    "hosts --submit",
    "hosts --takeover",
    "web_latency",
    "import_time",
)
MAX_REPEATS: Final = 3


def run_benchmark(benchmark: str, options: Sequence[str]) -> Run | None:
    """Run one benchmark, and repeat it while the run is invalid; return the last run, or None if the script failed."""
    script, *variant = benchmark.split()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "runs.json"
        command = [sys.executable, str(HERE / f"{script}.py"), *variant, *options, "--json", str(path)]
        for _ in range(1 + MAX_REPEATS):
            print(f"\n== {benchmark}", flush=True)
            if subprocess.run(command, check=False).returncode != EXIT_INVALID:
                break
        return next(reversed(read_runs(path)), None)


def store(runs: Iterable[Run], directory: Path = HERE) -> None:
    """Replace the earlier runs of the same benchmarks in figures.json, README.md and figures.svg."""
    stored, page = directory / "figures.json", directory / "README.md"
    newest = {run.benchmark: run for run in (*read_runs(stored), *runs)}
    write_runs(stored, [newest[benchmark] for benchmark in BENCHMARKS if benchmark in newest])
    page.write_text(insert_tables(page.read_text(encoding="utf-8"), newest.values()), encoding="utf-8")
    command = [sys.executable, str(HERE / "plot.py"), "--json", str(stored), str(directory / "figures.svg")]
    subprocess.run(command, check=True)


def insert_tables(text: str, runs: Iterable[Run]) -> str:
    """Return README.md with the table of each run between the markers of its benchmark."""
    for run in runs:
        marker = f"<!-- figures of {run.benchmark} -->"
        block = f"{marker}\n\n{run.date}, {run.machine}.\n\n{render_markdown(run.figures)}\n\n<!-- end -->"
        before, found, after = text.partition(marker)
        text = before + (block + after.partition("<!-- end -->")[2] if found else "")
    return text


def main() -> int:
    """Run, print and store; return 1 if a script failed, 3 if a run is invalid."""
    parser = argparse.ArgumentParser(
        "python benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmarks", nargs="*", help="benchmarks to run; all by default")
    parser.add_argument("--quick", action="store_true", help="only check, in about a minute, that all of them work")
    arguments = parser.parse_args()
    if unknown := set(arguments.benchmarks).difference(BENCHMARKS):
        parser.error(f"unknown benchmark {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}")
    options = ["--quick"] if arguments.quick else []
    results = [run_benchmark(benchmark, options) for benchmark in arguments.benchmarks or BENCHMARKS]
    runs = [run for run in results if run]
    for run in runs:
        print(f"\n{run.benchmark}\n{render_text(run.figures)}")
    if not arguments.quick:
        store(runs)
    if len(runs) < len(results):
        return 1
    return EXIT_INVALID if any(run.invalid for run in runs) and not arguments.quick else 0


if __name__ == "__main__":
    raise SystemExit(main())
